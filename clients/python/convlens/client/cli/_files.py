"""Files that a command writes whole or not at all."""

import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import click

from convlens.client._text import readable, shown


def check_folder(out: Path) -> None:
    """Raises ClickException where there is no folder for the file."""
    if not os.path.isdir(out.parent):
        raise click.ClickException(
            f"{shown(out)} cannot be written: there is no folder {shown(out.parent)}."
        )


def check_new(out: Path, *, overwrite: bool) -> None:
    """Raises ClickException where the file is there and may not be written over."""
    if os.path.isdir(out):
        raise click.ClickException(f"{shown(out)} cannot be written: it is a folder.")
    if os.path.exists(out) and not overwrite:
        raise click.ClickException(
            f"{shown(out)} is there already; choose another name, or give --overwrite."
        )


def write_whole(out: Path, content: str | bytes) -> None:
    """Writes the file, or leaves what was there as it is; ClickException says why."""
    data = content if isinstance(content, bytes) else readable(content).encode()
    beside = out.with_name(f".{out.name}.partial")
    try:
        with _gone_unless_done(beside):
            beside.write_bytes(data)
            beside.replace(out)
    except OSError as error:
        words = f"{shown(out)} cannot be written: {error.strerror}."
        raise click.ClickException(words) from error


@contextmanager
def _gone_unless_done(path: Path) -> Generator[None, None, None]:
    try:
        yield
    except BaseException:
        path.unlink(missing_ok=True)
        raise
