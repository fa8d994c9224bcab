"""Options that several studies take; `words` say what each is for."""

from typing import Any

import click

from convlens.client.cli._specs import Numbers


def _names(ctx: click.Context, param: click.Parameter, value: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in value.split(","))
    if not all(names):
        raise click.BadParameter(f"{value!r} has an empty name.")
    return names


def layers(words: str) -> Any:
    """--layers A,B as a tuple of names, in their order."""
    return click.option("--layers", required=True, callback=_names, metavar="A,B,...", help=words)


def maps(words: str) -> Any:
    """--maps N,N as a tuple of indices, or None."""
    words = f"Maps of that layer, from 0; else {words}."
    return click.option("--maps", type=Numbers(int), metavar="N,N,...", help=words)


def count(words: str) -> Any:
    """--count N of what is wanted of each, 9 by default."""
    kind = click.IntRange(1)
    return click.option("--count", type=kind, default=9, show_default=True, metavar="N", help=words)


def seed(words: str) -> Any:
    """--seed N, 0 by default."""
    kind = click.IntRange(0, 2**32 - 1)
    return click.option("--seed", type=kind, default=0, show_default=True, metavar="N", help=words)
