"""The door of the command `convlens-server`, open before anything heavy is imported."""

import signal
import sys

INTERRUPTED = 130


def main() -> int:
    """Runs the command; Ctrl-C never ends in a traceback, however early it comes."""
    # There is nothing to clear until the server starts, and that takes over.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    from convlens.server.main import main as run

    try:
        return run()
    except KeyboardInterrupt:
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
