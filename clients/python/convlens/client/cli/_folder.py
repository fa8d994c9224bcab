"""The folders that --out fills: pictures, numbers, the receipt."""

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import click

from convlens.client._text import readable, shown
from convlens.client.cli._calls import Answer, Picture
from convlens.client.cli._receipts import FORMAT, NAME, write_receipts
from convlens.client.cli._specs import short

# Characters of a label that go into the name of a file.
LONGEST_LABEL = 40


class Folder:
    """Names the files of a run so that none has the name of another, and writes the receipt.

    `form` is the format of the receipt.
    """

    def __init__(self, path: Path, form: str, *, overwrite: bool) -> None:
        self._path, self._form = path, form
        self._taken: set[str] = set()
        self._calls: list[dict[str, Any]] = []
        if (path / NAME).exists() and not overwrite:
            raise click.ClickException(
                f"{shown(path / NAME)} is there already; choose another folder, or give "
                "--overwrite."
            )
        # Whether there can be one is said at once; it comes with its first file.
        missing = [each for each in (path, *path.parents) if not each.exists()]
        self._make()
        with suppress(OSError):
            for each in missing:
                each.rmdir()

    def write(self, name: str, write: Callable[[Path], object]) -> None:
        """Has a file written."""
        self._make()
        with _writing(self._path / name):
            write(self._path / name)

    def add_call(self, call: dict[str, Any]) -> None:
        """Writes down one more call."""
        self._calls.append(call)
        self._make()
        write_receipts(self.receipt, self._form, self._calls)

    def _make(self) -> None:
        with _writing(self._path):
            self._path.mkdir(parents=True, exist_ok=True)

    @property
    def receipt(self) -> Path:
        """The file that says what was done."""
        return self._path / NAME

    def free(self, stem: str) -> str:
        """A name without suffix, with a number behind it where it is taken.

        Case does not tell names apart.
        """
        stem = readable(stem)
        name, number = stem, 1
        while name.lower() in self._taken:
            number += 1
            name = f"{stem}-{number}"
        self._taken.add(name.lower())
        return name


class MapFolder(Folder):
    """The folder of `convlens explain`: maps as pictures, and as numbers where asked for."""

    def __init__(self, path: Path, methods: Sequence[str], *, maps: bool, overwrite: bool) -> None:
        super().__init__(path, FORMAT, overwrite=overwrite)
        self._maps = maps
        self._methods = _numbered(methods)

    def save(self, picture: Picture, answer: Answer) -> dict[str, str]:
        """Writes the picture of an answer, and its map where asked for; their names by kind."""
        found = answer.attribution
        if found.error is not None:
            return {}
        parts = [picture.path.stem, self._methods[found.method_index]]
        if found.target is not None:
            parts.append(_plain(found.target.label) or str(found.target.index))
        stem = self.free("-".join(parts))
        files = {"png": f"{stem}.png", **({"npy": f"{stem}.npy"} if self._maps else {})}
        for name in files.values():
            self.write(name, found.save)
        return files


@contextmanager
def _writing(path: Path) -> Generator[None, None, None]:
    """Says what cannot be written, and why."""
    try:
        yield
    except OSError as error:
        words = f"{shown(path)} cannot be written: {error.strerror}."
        raise click.ClickException(words) from error


def _numbered(methods: Sequence[str]) -> list[str]:
    """A name for each method: the second occlusion is "occlusion-2"."""
    names = [short(name) for name in methods]
    return [
        name if name not in names[:n] else f"{name}-{names[:n].count(name) + 1}"
        for n, name in enumerate(names)
    ]


def _plain(label: str) -> str:
    """A label as part of a file's name: "tiger, cat" is "tiger-cat"."""
    words = "".join(char if char.isalnum() else " " for char in label).split()
    return "-".join(words)[:LONGEST_LABEL].rstrip("-")
