"""The group of all commands, and the one place where an error becomes a line and an exit code."""

import io
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any, NoReturn

import click

from convlens.client import ConvLensError

# gRPC's core writes to stderr what the command says better.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

DEBUG_VARIABLE = "CONVLENS_DEBUG"
FAILED, USAGE, INTERRUPTED = 1, 2, 130


class Program(click.Group):
    """Ends with a code and one line on stderr, whatever happens in a command."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> NoReturn:
        """Runs the command that the arguments name."""
        _accept_any_text()
        try:
            code = super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
            sys.stdout.flush()
        except click.exceptions.NoArgsIsHelpError as error:
            click.echo(error.format_message(), err=True)
            sys.exit(USAGE)
        except click.UsageError as error:
            path = error.ctx.command_path if error.ctx else "convlens"
            _fail(f"{error.format_message()} See '{path} --help'.", USAGE)
        except click.ClickException as error:
            _fail(error.format_message(), FAILED)
        except (click.Abort, KeyboardInterrupt):
            _fail("interrupted", INTERRUPTED)
        except BrokenPipeError:
            _forget_stdout()
            sys.exit(FAILED)
        except ConvLensError as error:
            _fail(str(error), FAILED)
        except Exception as error:
            if os.environ.get(DEBUG_VARIABLE):
                raise
            text = f"a defect of this command: {type(error).__name__}: {error}."
            _fail(f"{text} Set {DEBUG_VARIABLE}=1 to see where.", FAILED)
        # What ctx.exit() was told comes back from a group that is not to end the process itself.
        sys.exit(code)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Names the commands there are, where one was misspelt."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            known = ", ".join(self.list_commands(ctx))
            raise click.UsageError(
                f"{error.format_message()} Commands are: {known}.", ctx
            ) from None


@click.group("convlens", cls=Program, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("convlens-client"), message="convlens %(version)s")
def program() -> None:
    """Look into image-classification networks over gRPC.

    \b
    See it work, without anything running:
      convlens demo
    Ask a server of yours:
      convlens health --server gpu-1:50051
      convlens networks
      convlens classify holiday.jpg photos/ --top-k 3

    The server's address comes from --server, or from the environment variable CONVLENS_SERVER.
    Whatever answers has --json. Exit codes: 0, 1 (something failed), 2 (wrong usage).
    """


def _fail(message: str, code: int) -> NoReturn:
    try:
        click.echo(f"convlens: {message}", err=True)
    except BrokenPipeError:
        _forget_stdout()
    sys.exit(code)


def _accept_any_text() -> None:
    """Names of files may hold what the terminal cannot show; that must not end a command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _forget_stdout() -> None:
    # The reader is gone; without this Python would complain about it once more when it ends.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
