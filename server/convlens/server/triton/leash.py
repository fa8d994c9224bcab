"""Becomes the command in its arguments, and dies with the process that started it.

Run as a script, with the starter's pid and the command: `python leash.py 123 /bin/sleep 60`. A
program instead of a `preexec_fn`, which is not safe in a process that has threads.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Sequence

PR_SET_PDEATHSIG = 1


def on_leash(command: Sequence[str]) -> list[str]:
    """What to run so that the command dies with the thread that starts it."""
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), *command]


def main() -> None:
    """Ties this process to its parent, then runs the command in its place."""
    owner, *command = sys.argv[1:]
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    # The owner may have died before the line above, which would then never fire.
    if os.getppid() != int(owner):
        sys.exit(1)
    # Python ignores SIGPIPE and the command inherits that: when the owner is gone, nobody reads
    # its log, and the stubs shall still be able to end in good order.
    os.execv(command[0], command)


if __name__ == "__main__":
    main()
