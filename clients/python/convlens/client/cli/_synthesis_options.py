"""What all ways of `convlens synthesize` can be told."""

from collections.abc import Callable, Mapping
from functools import wraps
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import click
from google.protobuf.message import Message

from convlens.client.cli import _options as options
from convlens.client.cli._synthesis_call import Asked, made
from convlens.client.cli._synthesis_settings import (
    PREVIEW,
    Setting,
    settings_document,
    settings_help,
)

if TYPE_CHECKING:
    CanvasType: TypeAlias = click.ParamType[tuple[int, int]]
else:
    # They have no type parameters before click 8.4.
    CanvasType = click.ParamType


class Size(CanvasType):
    """HEIGHTxWIDTH, or the side of a square."""

    name = "canvas"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        """Height and width."""
        if not isinstance(value, str):
            return value
        height, x, width = value.lower().partition("x")
        try:
            return int(height), int(width if x else height)
        except ValueError:
            self.fail(f"{value!r} is no size; write HEIGHTxWIDTH, or one number.", param, ctx)


def making(
    several: Mapping[str, Message],
) -> Callable[[Callable[..., Asked]], Callable[..., None]]:
    """Makes what a function asks for, with the options that all ways to make pictures have.

    --set is of one of `several` methods, by the names that --help-methods gives them.
    """

    def decorated(asks: Callable[..., Asked]) -> Callable[..., None]:
        own = list(signature(asks).parameters)

        @wraps(asks)
        def command(ctx: click.Context, *, help_methods: bool, **given: Any) -> None:
            if help_methods:
                write = settings_document if given["as_json"] else settings_help
                click.echo(write(several))
                return
            asked = asks(**{name: given.pop(name) for name in own})
            made(ctx, asked, given)

        return _with_options(command, several)

    return decorated


def _with_options(
    command: Callable[..., None], several: Mapping[str, Message]
) -> Callable[..., None]:
    file = click.Path(path_type=Path)
    decorators: list[Callable[..., Any]] = [
        click.option(
            "--out",
            type=file,
            metavar="FILE.png",
            help="The picture, and FILE.receipt.json; of several a sheet, FILE-1.png and so on.",
        ),
        click.option(
            "--gif", type=file, metavar="FILE.gif", help="How it grew; every preview is a frame."
        ),
        click.option("--overwrite", is_flag=True, help="Write over files that are there."),
        click.option(
            "--checkpoint",
            type=file,
            metavar="FILE",
            help="Keep in this file what is done, and go on from it where it is there.",
        ),
        click.option("--steps", type=int, metavar="N", help="Steps at most."),
        click.option("--canvas", type=Size(), metavar="HxW", help="The size; else the network's."),
        click.option(
            "--set",
            "settings",
            multiple=True,
            type=Setting(*several.values()),
            metavar="PARAM=VALUE,...",
            help="Any other parameter, priors too; --help-methods lists them.",
        ),
        click.option(
            "--preview-every",
            type=click.IntRange(round(PREVIEW.min), round(PREVIEW.max)),
            metavar="N",
            help=f"Steps between two previews; {PREVIEW.default} by default, fewer with --gif.",
        ),
        options.seed,
        click.option(
            "--timeout",
            type=options.SECONDS,
            metavar="SECONDS",
            help="How long it may take.",
        ),
        options.allow_partial,
        options.estimate,
        click.option("--help-methods", is_flag=True, help="List all parameters that --set takes."),
        options.server,
        options.network,
        options.as_json("one JSON document"),
        click.pass_context,
    ]

    for decorator in reversed(decorators):
        command = decorator(command)
    return command
