"""Options that several commands share."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from convlens.client._transport import ADDRESS_VARIABLE, DEFAULT_ADDRESS
from convlens.client.cli import _connection as connection
from convlens.contract import rule_of
from convlens.v1 import classification_pb2

F = TypeVar("F", bound=Callable[..., Any])

TOP_K = rule_of(classification_pb2.ClassifyRequest.DESCRIPTOR.fields_by_name["top_k"])


class FiniteRange(click.FloatRange):
    """A range that has neither nan, which no comparison rules out, nor infinity."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """The number, or an error that says what is allowed."""
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{number} is not in the range {self._describe_range()}.", param, ctx)
        return number


SECONDS = FiniteRange(min=0, min_open=True)

address = click.option(
    "--server",
    metavar="HOST:PORT",
    envvar=ADDRESS_VARIABLE,
    default=DEFAULT_ADDRESS,
    show_default=True,
    show_envvar=True,
    help="Where the server is.",
)


def server(command: F) -> F:
    """--server, and how to be sure of it and say who calls; `connection.connected` goes by them."""
    return address(connection.options(command))


network = click.option(
    "--network", metavar="NAME[@VERSION]", default="", help="A served network; else the default."
)

top_k = click.option(
    "--top-k",
    type=click.IntRange(round(TOP_K.min), round(TOP_K.max)),
    metavar="K",
    help=f"How many of the best classes to show; {TOP_K.default} by default.",
)

timeout = click.option(
    "--timeout",
    type=SECONDS,
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for the answer.",
)

seed = click.option(
    "--seed", type=click.IntRange(0, 2**64 - 1), metavar="N", help="Seed of everything random."
)

time_of_call = click.option(
    "--timeout",
    type=SECONDS,
    metavar="SECONDS",
    help="How long a call may take; 16 pictures are one call.",
)

allow_partial = click.option(
    "--allow-partial", is_flag=True, help="Take what there is then, in place of an error."
)

estimate = click.option(
    "--estimate", is_flag=True, help="Say what it would cost, and compute nothing."
)

help_methods = click.option(
    "--help-methods", is_flag=True, help="List all methods and their parameters."
)

overwrite = click.option(
    "--overwrite", is_flag=True, help="Write into a folder that has a receipt."
)


def out(what: str) -> Callable[[F], F]:
    """--out, saying what the folder gets."""
    kind = click.Path(path_type=Path, file_okay=False)
    return click.option("--out", type=kind, metavar="DIR", help=what)


def as_json(what: str) -> Callable[[F], F]:
    """--json, saying what is printed then."""
    return click.option("--json", "as_json", is_flag=True, help=f"Print {what}.")
