"""The options of the connection that every command has, and the client that they make.

No option takes a token itself: the list of processes would show it to everybody.
"""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from convlens.client._security import (
    CA_VARIABLE,
    CERTIFICATE_VARIABLE,
    KEY_VARIABLE,
    TLS_VARIABLE,
    TOKEN_FILE_VARIABLE,
    TOKEN_VARIABLE,
)
from convlens.client._transport import PRIORITIES

if TYPE_CHECKING:
    from convlens.client import Client

F = TypeVar("F", bound=Callable[..., Any])
# Where a context keeps what the options said.
GIVEN = "convlens.connection"

# What options do about an answer that comes too late.
AGAINST_LATENESS = {
    "--timeout": "allows more",
    "--allow-partial": "takes what there is by then",
}


def _keep(ctx: click.Context, option: click.Parameter, value: Any) -> None:
    if value not in (None, False) or option.name == "tls":
        ctx.meta.setdefault(GIVEN, {})[option.name] = value


def _file(flag: str, name: str, variable: str, what: str) -> Callable[[F], F]:
    kind = click.Path(path_type=Path, dir_okay=False)
    return click.option(
        flag, name, type=kind, metavar="FILE", expose_value=False, callback=_keep,
        help=f"{what} [env var: {variable}]",
    )  # fmt: skip


OPTIONS = (
    click.option(
        "--priority",
        type=click.Choice(PRIORITIES),
        expose_value=False,
        callback=_keep,
        help="Calls of batch leave room for interactive ones, which is what they are without it.",
    ),
    click.option(
        "--tls/--no-tls",
        default=None,
        expose_value=False,
        callback=_keep,
        help=f"Whether the connection is TLS; it is with --ca. [env var: {TLS_VARIABLE}]",
    ),
    _file("--ca", "ca", CA_VARIABLE, "Authorities to trust, in PEM; else those that gRPC knows."),
    _file("--certificate", "certificate", CERTIFICATE_VARIABLE, "A certificate of yours, in PEM."),
    _file("--key", "key", KEY_VARIABLE, "The key of the certificate."),
    _file(
        "--token-file",
        "token",
        TOKEN_FILE_VARIABLE,
        f"The file of your token; {TOKEN_VARIABLE} has the token itself.",
    ),
    click.option(
        "--allow-plaintext-token",
        is_flag=True,
        expose_value=False,
        callback=_keep,
        help="Send the token without TLS to another machine, where the way is safe.",
    ),
)


def options(command: F) -> F:
    """All of them, in their order."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


@contextmanager
def connected(server: str, **more: Any) -> "Generator[Client]":
    """The client that the options of the command under way ask for.

    An error for want of time names the options that help.
    """
    from convlens.client import Client, DeadlineExceeded

    ctx = click.get_current_context()
    with Client(server, **ctx.meta.get(GIVEN, {}), **more) as client:
        try:
            yield client
        except DeadlineExceeded as error:
            raise click.ClickException(f"{error}{_advice(ctx)}") from error


def _advice(ctx: click.Context) -> str:
    """The options of the command that help where time was short, but for flags that are set."""
    there = [
        option for option in ctx.command.params if ctx.params.get(option.name or "") is not True
    ]
    flags = [flag for flag in AGAINST_LATENESS if any(flag in each.opts for each in there)]
    words = " and ".join(f"{flag} {AGAINST_LATENESS[flag]}" for flag in flags)
    return f" ({words})" if words else ""
