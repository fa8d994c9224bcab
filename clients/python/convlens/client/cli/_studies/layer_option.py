"""The option with which studies take the names of several layers."""

from typing import Any

import click


def _names(ctx: click.Context, param: click.Parameter, value: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in value.split(","))
    if not all(names):
        raise click.BadParameter(f"{value!r} has an empty name.")
    return names


def layers(words: str) -> Any:
    """--layers A,B as a tuple of names, in their order; `words` say what they are for."""
    return click.option("--layers", required=True, callback=_names, metavar="A,B,...", help=words)
