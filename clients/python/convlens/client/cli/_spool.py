"""The codes of a run that is not finished, on disk: what makes `convlens extract` resumable.

A folder beside the file that is to be written holds the plan of the run, a journal with a line for
each picture, and for each layer the raw numbers of the pictures that were answered. A line is
written after its numbers, so whatever moment the run ends at, what the journal has is whole.
"""

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from convlens.client import ConvLensError, Features
from convlens.client.cli._outcomes import error_json

PLAN, FORMS, JOURNAL, LOCK = "plan.json", "forms.json", "journal.jsonl", "lock"


class SpoolError(Exception):
    """The folder holds another run, or belongs to one that is under way."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A picture that is done; `size` in bytes and `changed` in ns tell whether it is the same."""

    picture: str
    size: int
    changed: int
    error: dict[str, Any] | None = None

    @classmethod
    def of(cls, path: Path, error: ConvLensError | None = None) -> "Entry":
        """The entry of a file as it is now."""
        try:
            status = path.stat()
            size, changed = status.st_size, status.st_mtime_ns
        except OSError:
            size, changed = -1, -1
        return cls(str(path), size, changed, error and error_json(error))


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
    """Rows of the pictures that are done; only one process has it open at a time."""

    def __init__(
        self, folder: Path, plan: dict[str, Any], names: Sequence[str], *, fresh: bool = False
    ) -> None:
        """Opens the folder, or makes it; a `fresh` one forgets what was in it.

        Raises SpoolError where it has another plan, or another process has it open.
        """
        self.folder = folder
        self.forms: list[Form] = []
        self.done: list[Entry] = []
        self._names = names
        self._files: list[BinaryIO] = []
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(folder / LOCK)
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise SpoolError(f"{folder} belongs to a run that is under way") from None
        try:
            if fresh:
                self._forget()
            self._read(plan)
            self._journal = (folder / JOURNAL).open("a", encoding="utf-8")
        except BaseException:
            self._lock.release()
            raise
        self._open = True

    @property
    def answered(self) -> int:
        """The number of pictures that have rows."""
        return sum(entry.error is None for entry in self.done)

    def resume(self, paths: Sequence[Path]) -> int:
        """How many of the pictures are done; SpoolError where it is not these that were begun."""
        before = self.done
        now = [Entry.of(path) for path in paths[: len(before)]]
        for was, entry in zip(before, now, strict=False):
            if (was.picture, was.size, was.changed) != (entry.picture, entry.size, entry.changed):
                raise SpoolError(f"{self.folder} has other pictures, {was.picture} among them")
        if len(now) < len(before):
            raise SpoolError(f"{self.folder} has more pictures: {len(before)}")
        return len(before)

    def add(self, path: Path, result: Features | ConvLensError) -> None:
        """One more picture is done."""
        if isinstance(result, ConvLensError):
            self._note(Entry.of(path, result))
            return
        rows = list(self._rows(result))
        forms = [Form(name, row.shape, row.dtype.str) for name, row in rows]
        if not self.forms:
            self._begin(forms)
        elif forms != self.forms:
            raise SpoolError(f"{path} has codes of other shapes than the pictures before it")
        for file, (_, row) in zip(self._files, rows, strict=True):
            file.write(row.tobytes())
            file.flush()
        self._note(Entry.of(path))

    def raw(self, number: int) -> BinaryIO:
        """The rows of an array, as they lie on disk."""
        return (self.folder / f"{number}.rows").open("rb")

    def blocks(self, number: int, size: int) -> Iterator[NDArray[Any]]:
        """The rows of an array, `size` at a time."""
        form = self.forms[number]
        with self.raw(number) as file:
            while block := file.read(size * form.bytes):
                yield np.frombuffer(block, form.dtype).reshape(-1, *form.shape)

    def close(self) -> None:
        """Keeps what is there for the next run; nothing, where no picture is done."""
        if self._open:
            if not self.done:
                self.remove()
            self._end()

    def remove(self) -> None:
        """Ends it with all that is in it."""
        shutil.rmtree(self.folder)
        self._end()

    def _end(self) -> None:
        self._open = False
        for file in (*self._files, self._journal):
            file.close()
        self._lock.release()

    def _read(self, plan: dict[str, Any]) -> None:
        file = self.folder / PLAN
        if not file.exists():
            _write(file, plan)
            return
        found = json.loads(file.read_text("utf-8"))
        for key, value in plan.items():
            if found.get(key) != value:
                raise SpoolError(f"{self.folder} is of a run with {_other(key, found, plan)}")
        forms = self.folder / FORMS
        if forms.exists():
            self.forms = [
                Form(form["name"], tuple(form["shape"]), form["dtype"])
                for form in json.loads(forms.read_text("utf-8"))
            ]
        self._cut()
        self._open_rows()

    def _forget(self) -> None:
        for path in self.folder.iterdir():
            if path.name != LOCK:
                path.unlink()

    def _cut(self) -> None:
        """Leaves what is whole: lines of the journal whose rows are all there, and no more."""
        sizes = [
            (self.folder / f"{number}.rows").stat().st_size // form.bytes
            for number, form in enumerate(self.forms)
        ]
        rows, end = min(sizes, default=0), 0
        journal = self.folder / JOURNAL
        journal.touch()
        for line in journal.read_bytes().splitlines(keepends=True):
            entry = _entry(line)
            if entry is None or (entry.error is None and self.answered == rows):
                break
            self.done.append(entry)
            end += len(line)
        os.truncate(journal, end)
        for number, form in enumerate(self.forms):
            os.truncate(self.folder / f"{number}.rows", self.answered * form.bytes)

    def _begin(self, forms: list[Form]) -> None:
        self.forms = forms
        for number in range(len(forms)):
            (self.folder / f"{number}.rows").touch()
        _write(self.folder / FORMS, [asdict(form) for form in forms])
        self._open_rows()

    def _open_rows(self) -> None:
        for number in range(len(self.forms)):
            self._files.append((self.folder / f"{number}.rows").open("ab"))

    def _rows(self, result: Features) -> Iterator[tuple[str, NDArray[Any]]]:
        for name, code in zip(self._names, result.codes, strict=True):
            yield name, code.values
            if code.positions is not None:
                yield f"{name}.positions", code.positions

    def _note(self, entry: Entry) -> None:
        self._journal.write(json.dumps(asdict(entry)) + "\n")
        self._journal.flush()
        self.done.append(entry)


def _entry(line: bytes) -> Entry | None:
    """What a line of the journal says; None of one that was not written to its end."""
    if not line.endswith(b"\n"):
        return None
    try:
        return Entry(**json.loads(line))
    except (TypeError, ValueError):
        return None


def _write(path: Path, value: object) -> None:
    """Writes all of it or nothing."""
    beside = path.with_suffix(".new")
    beside.write_text(json.dumps(value), "utf-8")
    beside.replace(path)


def _other(key: str, found: dict[str, Any], plan: dict[str, Any]) -> str:
    """How a plan differs, in words."""
    if key == "layers":
        before, now = (", ".join(layer["name"] for layer in each[key]) for each in (found, plan))
        return f"the layers {before}" if before != now else "other options for these layers"
    return f"{key.replace('_', ' ')} {found.get(key)}, and now it is {plan[key]}"
