"""Finds the pictures that names of files and folders, and patterns, stand for."""

import glob
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeAlias

from convlens.client._errors import InvalidRequest
from convlens.client._text import printable

#: A file, a folder or a pattern, or several of them.
Names: TypeAlias = "str | os.PathLike[str] | Iterable[str | os.PathLike[str]]"
#: A file or a folder.
Name: TypeAlias = str | os.PathLike[str]
SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".webp"})


def find(names: Names) -> list[Path]:
    """The pictures of every file, folder and pattern, in the order named.

    A folder gives what has the suffix of a picture, here and in all folders below, sorted. A name
    of nothing is kept as it is: whoever opens it will say so.
    """
    return [path for name in _listed(names) for path in _expand(name)]


def found(names: Names) -> list[Path]:
    """The same; raises InvalidRequest where there is no picture."""
    pictures = find(names)
    if not pictures:
        kinds = ", ".join(sorted(SUFFIXES))
        raise InvalidRequest(
            f"No pictures in {printable(', '.join(_listed(names)))}; looked for {kinds}."
        )
    return pictures


def _listed(names: Names) -> list[str]:
    single = isinstance(names, str | os.PathLike)
    return [os.fspath(name) for name in ([names] if single else names)]


def _expand(name: str) -> Iterator[Path]:
    if os.path.isdir(name):
        yield from _walk(Path(name))
    elif os.path.exists(name) or not glob.has_magic(name):
        yield Path(name)
    else:
        matches = sorted(glob.glob(name, recursive=True))
        for match in matches or [name]:
            yield from _walk(Path(match)) if os.path.isdir(match) else [Path(match)]


def _walk(folder: Path) -> Iterator[Path]:
    found = (path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    yield from sorted(path for path in found if path.is_file())
