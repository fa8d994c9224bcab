"""The command `convlens-loadtest`: puts load on a server, and says what came of it.

Exit codes: 0, 1 (something failed), 2 (wrong usage), 3 (a limit did not hold), 130 (Ctrl-C).
"""

from convlens.client.cli import run


def main() -> None:
    """Runs the command with the arguments of the process, and ends it."""
    run("convlens-loadtest", "convlens.loadtest.cli.program")


__all__ = ["main"]
