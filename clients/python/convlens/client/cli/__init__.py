"""The command `convlens`: look at networks and classify pictures from a terminal.

Exit codes: 0, 1 (something failed), 2 (wrong usage), 130 (Ctrl-C). Results go to stdout; errors,
one line each, and progress go to stderr.
"""

import contextlib
import os
import signal
import sys
from importlib import import_module
from typing import NoReturn


def main() -> None:
    """Runs the command with the arguments of the process, and ends it."""
    run("convlens", "convlens.client.cli._program")


def run(name: str, module: str) -> None:
    """Runs the `program` of a module with the arguments of the process, and ends it."""
    try:
        # Imported here, so that Ctrl-C is a line also while modules are being loaded.
        import_module(module).program.main(prog_name=name)
    except SystemExit as end:
        _end(end.code if isinstance(end.code, int) else int(end.code is not None))
    except KeyboardInterrupt:
        print(f"\n{name}: interrupted", file=sys.stderr)
        _end(130)


def _end(code: int) -> NoReturn:
    """Ends the process without Python's own ending, for which there is nothing left to do.

    It waits for gRPC's library, whose threads it stops wherever they are; once in some thousand
    runs that was inside a lock, and the command, long finished, never ended. It would also answer
    Ctrl-C with a traceback.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


__all__ = ["main", "run"]
