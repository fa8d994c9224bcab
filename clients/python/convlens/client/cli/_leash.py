"""Becomes the command in its arguments, and dies with the process that started it.

A script, run as `python _leash.py 123 sleep 60` with the pid of its starter: what subprocess can
run between fork and exec is not safe in a process with threads, and gRPC has some. Only Linux can
do it; elsewhere the command runs without a leash.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Ties this process to its parent, then runs the command in its place."""
    owner, *command = sys.argv[1:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        # The owner may have died before that, and then nothing would come any more.
        if os.getppid() != int(owner):
            sys.exit(1)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
