"""The command `convlens`: look at networks and classify pictures from a terminal.

Exit codes: 0, 1 (something failed), 2 (wrong usage), 130 (Ctrl-C). Results go to stdout; errors,
one line each, and progress go to stderr.
"""

import signal
import sys


def main() -> None:
    """Runs the command with the arguments of the process, and ends it."""
    try:
        # Imported here, so that Ctrl-C is a line also while modules are being loaded.
        from convlens.client.cli._program import program

        program.main(prog_name="convlens")
    except KeyboardInterrupt:
        print("\nconvlens: interrupted", file=sys.stderr)
        sys.exit(130)
    finally:
        # What Python does after this takes no time, and would answer Ctrl-C with a traceback.
        signal.signal(signal.SIGINT, signal.SIG_IGN)


__all__ = ["main"]
