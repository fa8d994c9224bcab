"""What a run has found of each picture so far, on disk: what makes long runs resumable.

A folder beside the file that is to be written holds the plan of the run, a journal with a line for
each picture, and for each array the raw numbers of the pictures that were answered. A line is
written after its numbers, so whatever moment the run ends at, what the journal has is whole.
"""

import json
import os
import re
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from convlens.client._errors import ConvLensError
from convlens.client._outcomes import error_json, is_own

PLAN, FORMS, JOURNAL, LOCK = "plan.json", "forms.json", "journal.jsonl", "lock"
# What is to become the file, and what says that it has.
OUT, FINISHED = "out", "finished"
# What a spool makes, in the order in which it may go: what lacks its rows is damaged, and what
# lacks its plan is nobody's.
_FIRST, _LAST = (JOURNAL, FORMS, "forms.new", "plan.new"), (OUT, PLAN, FINISHED, LOCK)
OWN = (*map(re.escape, _FIRST), r"[0-9]+\.rows", *map(re.escape, _LAST))


class SpoolError(Exception):
    """What keeps a run from going on with a folder, and what to do about it."""

    def __init__(
        self, words: str, advice: str = "Choose another --out, or begin anew with --overwrite"
    ) -> None:
        super().__init__(words)
        self.advice = advice


class Unwritable(SpoolError):
    """A file takes no more; what is done is whole."""

    def __init__(self, path: Path, error: OSError) -> None:
        words = f"{path} cannot be written: {error.strerror or error}"
        super().__init__(words, "Make room for it, and give the command again")


@dataclass(frozen=True, slots=True)
class Entry:
    """A picture that is done; `size` in bytes and `changed` in ns tell whether it is the same.

    `again` is of an error that is not the picture's own: the next run tries it once more.
    """

    picture: str
    size: int
    changed: int
    error: dict[str, Any] | None = None
    again: bool = False

    @classmethod
    def of(cls, path: Path, error: ConvLensError | None = None, again: bool = False) -> "Entry":
        """The entry of a file as it is now."""
        try:
            status = path.stat()
            size, changed = status.st_size, status.st_mtime_ns
        except OSError:
            size, changed = -1, -1
        return cls(str(path), size, changed, error and error_json(error), again)


@dataclass(frozen=True, slots=True)
class Form:
    """One array that a picture adds a row to, under the name that it has in the file."""

    name: str
    shape: tuple[int, ...]
    dtype: str

    @property
    def bytes(self) -> int:
        """The size of a row."""
        return int(np.prod(self.shape)) * np.dtype(self.dtype).itemsize


class Spool:
    """Rows of the pictures that are done; only one process has it open at a time.

    `done` is the number of pictures that are, and `answered` of those with rows. Of what it found
    when it was opened, the last `lost` pictures are computed again, for the reason `why`.
    """

    def __init__(self, folder: Path, plan: Mapping[str, Any], *, fresh: bool = False) -> None:
        """Opens the folder, or makes it; a `fresh` one forgets what was in it.

        Raises SpoolError where it has another plan, is damaged, is somebody else's, or another
        process has it open.
        """
        self.folder = folder
        self.forms: list[Form] = []
        self.done = self.answered = self.lost = 0
        self.why = ""
        self._tried: set[str] = set()
        self._files: list[BinaryIO] = []
        folder.mkdir(exist_ok=True)
        if not _is_ours(folder, plan):
            words = f"{folder} is not of this command"
            raise SpoolError(words, "Choose another --out, or move that folder away")
        self._lock = FileLock(folder / LOCK)
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            words = f"{folder} belongs to a run that is under way"
            raise SpoolError(words, "Choose another --out, or wait for it") from None
        try:
            if fresh:
                _remove_own(folder, but=LOCK)
            self._read(plan)
            (folder / FINISHED).unlink(missing_ok=True)
            self._journal = (folder / JOURNAL).open("a", encoding="utf-8")
        except BaseException:
            self._close_files()
            self._lock.release()
            raise
        self._open = True

    def entries(self) -> Iterator[Entry]:
        """The pictures that are done, in their order."""
        with (self.folder / JOURNAL).open("rb") as lines:
            for line in lines:
                if (entry := _entry(line)) is not None:
                    yield entry

    def resume(self, paths: Sequence[Path]) -> int:
        """How many of the pictures are done; SpoolError where it is not these that were begun."""
        for was, path in zip(self.entries(), paths, strict=False):
            now = Entry.of(path)
            if (was.picture, was.size, was.changed) != (now.picture, now.size, now.changed):
                raise SpoolError(f"{self.folder} has other pictures, {was.picture} among them")
        if len(paths) < self.done:
            raise SpoolError(f"{self.folder} has more pictures: {self.done}")
        return self.done

    def add(self, path: Path, result: Mapping[str, NDArray[Any]] | ConvLensError) -> None:
        """One more picture is done: its row of each array, or why it has none."""
        if isinstance(result, ConvLensError):
            # Once more is enough: a run must not begin again and again at the same picture.
            again = not is_own(result) and str(path) not in self._tried
            self._note(Entry.of(path, result, again))
            return
        forms = [Form(name, row.shape, row.dtype.str) for name, row in result.items()]
        if not self.forms:
            self._begin(forms)
        elif forms != self.forms:
            raise SpoolError(f"{path} has codes of other shapes than the pictures before it")
        for number, row in enumerate(result.values()):
            with _writing(self.path(number)):
                self._files[number].write(row.tobytes())
                self._files[number].flush()
        self._note(Entry.of(path))

    def path(self, number: int) -> Path:
        """The file of the rows of an array, as they lie on disk."""
        return self.folder / f"{number}.rows"

    def raw(self, number: int) -> BinaryIO:
        """The rows of an array, as they lie on disk."""
        return self.path(number).open("rb")

    def blocks(self, number: int, size: int) -> Iterator[NDArray[Any]]:
        """The rows of an array, `size` at a time."""
        form = self.forms[number]
        with self.raw(number) as file:
            while block := file.read(size * form.bytes):
                yield np.frombuffer(block, form.dtype).reshape(-1, *form.shape)

    @contextmanager
    def output(self, out: Path) -> Generator[BinaryIO, None, None]:
        """What is written here takes the place of `out` once it is whole."""
        beside = self.folder / OUT
        with _writing(beside):
            with beside.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            (self.folder / FINISHED).touch()
        with _writing(out):
            beside.replace(out)

    def close(self) -> None:
        """Keeps what is there for the next run; nothing, where no picture is done."""
        if self._open:
            if self.done:
                self._end()
            else:
                self.remove()

    def remove(self) -> None:
        """Ends it with all that it made."""
        self._close_files()
        try:
            _remove_own(self.folder)
        finally:
            self._end()

    def _end(self) -> None:
        self._open = False
        self._close_files()
        self._lock.release()

    def _close_files(self) -> None:
        for file in (*self._files, getattr(self, "_journal", None)):
            # A full disk was told when it was written to; a file that is closed tries once more.
            with suppress(OSError):
                if file is not None:
                    file.close()

    def _read(self, plan: Mapping[str, Any]) -> None:
        file = self.folder / PLAN
        if not file.exists():
            _write(file, plan)
            return
        try:
            self._check(json.loads(file.read_text("utf-8")), plan)
            forms = self.folder / FORMS
            if forms.exists():
                self.forms = [
                    Form(form["name"], tuple(form["shape"]), form["dtype"])
                    for form in json.loads(forms.read_text("utf-8"))
                ]
            self._cut()
        except (ValueError, LookupError, TypeError, ArithmeticError, FileNotFoundError) as error:
            raise SpoolError(f"{self.folder} is damaged") from error
        self._open_rows()

    def _check(self, found: dict[str, Any], plan: Mapping[str, Any]) -> None:
        for key, value in plan.items():
            if found[key] != value:
                raise SpoolError(f"{self.folder} is of a run with {_other(key, found, plan)}")

    def _cut(self) -> None:
        """Leaves what is whole: lines of the journal whose rows are all there, and no more."""
        sizes = [
            self.path(number).stat().st_size // form.bytes for number, form in enumerate(self.forms)
        ]
        rows, end = min(sizes, default=0), 0
        journal = self.folder / JOURNAL
        journal.touch()
        with journal.open("rb") as lines:
            for line in lines:
                entry = _entry(line)
                if not self.lost and entry is not None and self._is_whole(entry, rows):
                    self.done += 1
                    self.answered += entry.error is None
                    end += len(line)
                else:
                    self._lose(line, entry)
        os.truncate(journal, end)
        for number, form in enumerate(self.forms):
            os.truncate(self.path(number), self.answered * form.bytes)

    def _is_whole(self, entry: Entry, rows: int) -> bool:
        return not entry.again and (entry.error is not None or self.answered < rows)

    def _lose(self, line: bytes, entry: Entry | None) -> None:
        again = entry is not None and entry.again
        if not self.lost:
            self.why = "one failed by no fault of its own" if again else "their codes are damaged"
        # A line that has no end is of a picture that was under way.
        self.lost += line.endswith(b"\n")
        if entry is not None and again:
            self._tried.add(entry.picture)

    def _begin(self, forms: list[Form]) -> None:
        self.forms = forms
        with _writing(self.folder / FORMS):
            for number in range(len(forms)):
                # Whatever is there has lost its form, and is not before these rows.
                self.path(number).write_bytes(b"")
            _write(self.folder / FORMS, [asdict(form) for form in forms])
            self._open_rows()

    def _open_rows(self) -> None:
        for number in range(len(self.forms)):
            self._files.append(self.path(number).open("ab"))

    def _note(self, entry: Entry) -> None:
        with _writing(self.folder / JOURNAL):
            self._journal.write(json.dumps(asdict(entry)) + "\n")
            self._journal.flush()
        self.done += 1
        self.answered += entry.error is None


def remove_finished(folder: Path) -> None:
    """Removes what a run left that was ended after its file was whole."""
    with suppress(Timeout, OSError):
        names = _names(folder)
        if names >= {FINISHED, LOCK} and OUT not in names and names == _own(folder):
            with FileLock(folder / LOCK, timeout=0):
                _remove_own(folder)


def forget(folder: Path) -> None:
    """Removes what a run kept there; what another run has open, or somebody else's, stays."""
    with suppress(Timeout, OSError):
        if LOCK in _names(folder):
            with FileLock(folder / LOCK, timeout=0):
                _remove_own(folder)


def _is_ours(folder: Path, plan: Mapping[str, Any]) -> bool:
    """Whether a spool made what is in the folder; true where nothing is.

    With a plan that can be read it did, whatever lies beside. A plan may also be damaged, or, when
    a run was ended in its first moment, not be there yet.
    """
    with suppress(OSError, ValueError):
        found: object = json.loads((folder / PLAN).read_text("utf-8"))
        if isinstance(found, dict) and plan.keys() <= cast(dict[str, Any], found).keys():
            return True
    names = _names(folder)
    if PLAN in names:
        return LOCK in names and names == _own(folder)
    return names <= {LOCK, FINISHED, "plan.new"}


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def _own(folder: Path) -> set[str]:
    """The names in a folder that are such as a spool makes."""
    return {name for name in _names(folder) if any(re.fullmatch(own, name) for own in OWN)}


def _remove_own(folder: Path, but: str = "") -> None:
    """Removes what a spool made, in an order that a later run can go on from, and the folder."""
    for own in OWN:
        for name in _own(folder) - {but}:
            if re.fullmatch(own, name):
                (folder / name).unlink()
    if not but:
        # What somebody else put there stays.
        with suppress(OSError):
            folder.rmdir()


def _entry(line: bytes) -> Entry | None:
    """What a line of the journal says; None of one that is not whole."""
    if not line.endswith(b"\n"):
        return None
    try:
        found: Any = json.loads(line)
        entry = Entry(**found)
        told = entry.error is None or isinstance(entry.error["message"], str)
    except (LookupError, TypeError, ValueError):
        return None
    return entry if told and isinstance(found["picture"], str) else None


def _write(path: Path, value: object) -> None:
    """Writes all of it or nothing."""
    beside = path.with_suffix(".new")
    with beside.open("w", encoding="utf-8") as file:
        json.dump(value, file)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


@contextmanager
def _writing(path: Path) -> Generator[None, None, None]:
    try:
        yield
    except OSError as error:
        raise Unwritable(path, error) from error


def _other(key: str, found: dict[str, Any], plan: Mapping[str, Any]) -> str:
    """How a plan differs, in words."""
    if key == "layers":
        before, now = (", ".join(layer["name"] for layer in each[key]) for each in (found, plan))
        return f"the layers {before}" if before != now else "other options for these layers"
    return f"{key.replace('_', ' ')} {found.get(key)}, and now it is {plan[key]}"
