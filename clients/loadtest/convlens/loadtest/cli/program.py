"""The group of all commands; without the name of one, the first argument is a scenario."""

from collections.abc import Sequence
from importlib import import_module

import click
from click.shell_completion import CompletionItem

from convlens.client.cli._program import Program

# The commands and the first sentence of each; its module is imported when it is used.
COMMANDS = {
    "compare": "Compare the results of two runs.",
    "completion": "Print what makes a shell complete this command.",
    "limit": "Find the highest rate that this machine can offer.",
    "list": "List the scenarios that come with the command.",
    "page": "Write the page of a result.",
    "run": "Put the load of a SCENARIO on a server; `run` itself may be left out.",
    "show": "Print a scenario.",
}
MODULES = {"list": "scenarios", "show": "scenarios"}
FUNCTIONS = {"list": "list_scenarios"}
OWN = ("-h", "--help", "--version")


class LoadProgram(Program):
    """Takes what is no command for a scenario."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """The arguments, with the command that was left out."""
        if args and args[0] not in COMMANDS and args[0] not in OWN:
            args.insert(0, "run")
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of all commands."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, imported now."""
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"convlens.loadtest.cli.{MODULES.get(cmd_name, cmd_name)}")
        return getattr(module, FUNCTIONS.get(cmd_name, cmd_name))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the list of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(sorted(COMMANDS.items()))

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Commands, and what a scenario may be called."""
        from convlens.loadtest.cli.scenarios import scenarios_like

        if incomplete.startswith("-"):
            return super().shell_complete(ctx, incomplete)
        return [
            *scenarios_like(ctx, None, incomplete),
            *super().shell_complete(ctx, incomplete),
        ]


@click.group(
    "convlens-loadtest",
    cls=LoadProgram,
    context_settings={"help_option_names": ["-h", "--help"]},
    subcommand_metavar="SCENARIO | COMMAND [OPTIONS]...",
)
@click.version_option(package_name="convlens-loadtest", message="convlens-loadtest %(version)s")
def program() -> None:
    """Put load on a ConvLens server, and see what comes of it.

    \b
    See that a server of yours answers:
      convlens-loadtest smoke --server gpu-1:50051
    Find what it can take, and what it does with five times that:
      convlens-loadtest overload-5x --server gpu-1:50051 --html page.html
    In a pipeline:
      convlens-loadtest mine.yaml --assert 'p99 < 200ms' --output result.json
      convlens-loadtest compare before.json result.json --fail-above 10%
    Write a scenario of your own:
      convlens-loadtest list
      convlens-loadtest show smoke > mine.yaml

    Latency counts from the time that a request was due, whether it could be sent then or not.
    Exit codes: 0, 1 (something failed), 2 (wrong usage), 3 (a limit did not hold), 130 (Ctrl-C).
    """


__all__: Sequence[str] = ["program"]
