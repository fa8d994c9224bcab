"""The command `convlens`: look at networks and classify pictures from a terminal.

Exit codes: 0, 1 (something failed), 2 (wrong usage), 130 (Ctrl-C). Results go to stdout; errors,
one line each, and progress go to stderr.
"""

from convlens.client.cli._classify import classify
from convlens.client.cli._completion import completion
from convlens.client.cli._demo import demo
from convlens.client.cli._program import program
from convlens.client.cli._server import health, networks

for command in (demo, classify, networks, health, completion):
    program.add_command(command)


def main() -> None:
    """Runs the command with the arguments of the process, and ends it."""
    program.main(prog_name="convlens")


__all__ = ["main", "program"]
