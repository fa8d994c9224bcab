"""The group of all commands, and the one place where an error becomes a line and an exit code."""

import errno
import io
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NoReturn

import click

# gRPC's core writes to stderr what the command says better.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

DEBUG_VARIABLE = "CONVLENS_DEBUG"
FAILED, USAGE, INTERRUPTED = 1, 2, 130
# What the system says where stdout takes no more.
UNWRITABLE = frozenset({errno.EBADF, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ENOSPC})

# The commands and the first sentence of each; its module is imported when it is used.
COMMANDS = {
    "anatomy": "Show the layers of a network and what they cost.",
    "attack": "Look for small changes of pictures that fool a network.",
    "classify": "Say what is in pictures.",
    "completion": "Print what makes a shell complete this command.",
    "demo": (
        "Start a server, classify, explain and attack a few pictures through it, and end it again."
    ),
    "explain": "Show what in pictures a network's answers rest on.",
    "extract": "Write what a network computes at its layers, for whole folders of pictures.",
    "health": "Ask whether a server answers, or one SERVICE of it.",
    "networks": "List the networks that a server has.",
    "report": "Write a page that shows pictures, answers, and what these rest on.",
    "replay": "Compute the answers of a receipt again, and compare the bits.",
    "robustness": "Measure accuracy against the size of the change that an attack may make.",
    "study": "Study what a served network has learned, over whole folders of pictures.",
    "synthesize": "Make the pictures that a network answers to.",
}
MODULES = {"health": "_server", "networks": "_server"}


class Commands(click.Group):
    """Names the commands that there are, where one was misspelt."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that the arguments name."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            known = ", ".join(self.list_commands(ctx))
            raise click.UsageError(
                f"{error.format_message()} Commands are: {known}.", ctx
            ) from None


class Program(Commands):
    """Ends with a code and one line on stderr, whatever happens in a command."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of all commands."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, imported now."""
        if cmd_name not in COMMANDS:
            return None
        module = MODULES.get(cmd_name, f"_{cmd_name}")
        return getattr(import_module(f"convlens.client.cli.{module}"), cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the list of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(sorted(COMMANDS.items()))

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> NoReturn:
        """Runs the command that the arguments name."""
        name = self.name or "convlens"
        _prepare_streams(name)
        # What commands that say how to repeat them find in ctx.obj.
        typed = sys.argv[1:] if args is None else list(args)
        try:
            code = super().main(
                args, prog_name, complete_var, standalone_mode=False, obj=typed, **extra
            )
            sys.stdout.flush()
        except click.exceptions.NoArgsIsHelpError as error:
            click.echo(error.format_message(), err=True)
            sys.exit(USAGE)
        except click.UsageError as error:
            path = error.ctx.command_path if error.ctx else name
            _fail(name, f"{error.format_message()} See '{path} --help'.", USAGE)
        except click.ClickException as error:
            _fail(name, error.format_message(), FAILED)
        except (click.Abort, KeyboardInterrupt):
            _fail(name, "interrupted", INTERRUPTED)
        except BrokenPipeError:
            _forget_stdout()
            sys.exit(FAILED)
        except Exception as error:
            _fail(name, _in_words(error), FAILED)
        # What ctx.exit() was told comes back from a group that is not to end the process itself.
        sys.exit(code)


@click.group("convlens", cls=Program, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="convlens-client", message="convlens %(version)s")
def program() -> None:
    """Look into image-classification networks over gRPC.

    \b
    See it work, without anything running:
      convlens demo
    Ask a server of yours:
      convlens health --server gpu-1:50051
      convlens networks
      convlens classify holiday.jpg photos/ --top-k 3
      convlens extract photos/ --layers cnn-code --out codes.npz
      convlens explain photo.jpg --method grad-cam --out maps
      convlens attack photo.jpg --method pgd --out fooled
      convlens robustness photos/ --attack pgd --epsilons 4/255 --out curve.html
      convlens report photos/ -o report.html
      convlens synthesize class-model --target star --out star.png
      convlens study top-patches photos/ --layer layer3 --out patches

    The server's address comes from --server, or from the environment variable CONVLENS_SERVER.
    Whatever answers has --json. Exit codes: 0, 1 (something failed), 2 (wrong usage), 130 (Ctrl-C).
    """


def _in_words(error: Exception) -> str:
    from convlens.client import ConvLensError

    if isinstance(error, ConvLensError):
        return str(error)
    if isinstance(error, OSError) and error.errno in UNWRITABLE:
        return f"the output cannot be written: {error.strerror}."
    if os.environ.get(DEBUG_VARIABLE):
        raise error
    text = f"a defect of this command: {type(error).__name__}: {error}."
    return f"{text} Set {DEBUG_VARIABLE}=1 to see where."


def _fail(name: str, message: str, code: int) -> NoReturn:
    try:
        click.echo(f"{name}: {message}", err=True)
        sys.stdout.flush()
    except OSError:
        # Python would try it once more when it ends, and complain.
        _forget_stdout()
    sys.exit(code)


def _prepare_streams(name: str) -> None:
    """Where a stream is closed, says so or does without; where it is not, lets it take any text."""
    if sys.stderr is None:  # pyright: ignore[reportUnnecessaryComparison]
        # Until the process ends: what closes it would take the errors' place to go.
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    if sys.stdout is None:  # pyright: ignore[reportUnnecessaryComparison]
        sys.stdout = sys.stderr
        _fail(name, "stdout is closed; there is nowhere to write to.", FAILED)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # Names of files may hold what the terminal cannot show; that must not end a command.
            stream.reconfigure(errors="replace")


def _forget_stdout() -> None:
    # Nobody takes what is left of it; without this Python would complain about it when it ends.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
