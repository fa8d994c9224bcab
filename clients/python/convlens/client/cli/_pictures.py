"""Finds the pictures that arguments of the command line name."""

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import click

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".webp"})


def find(names: Iterable[str]) -> list[Path]:
    """The pictures of every file, folder and pattern, in the order named.

    A folder gives what has the suffix of a picture, here and in all folders below, sorted. A name
    of nothing is kept as it is: whoever opens it will say so.
    """
    return [path for name in names for path in _expand(name)]


def found(names: Sequence[str]) -> list[Path]:
    """The same, or an error where there is no picture."""
    pictures = find(names)
    if not pictures:
        kinds = ", ".join(sorted(SUFFIXES))
        raise click.ClickException(f"No pictures in {', '.join(names)}; looked for {kinds}.")
    return pictures


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
