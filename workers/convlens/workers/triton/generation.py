"""Ends a worker once workers of a newer generation answer in its place.

Triton 2.51 waits for the dead instance of a model that is loaded again, and meanwhile never ends
the others; so they end themselves (docs/decisions/0009-replaced-workers-end-themselves.md).
"""

import contextlib
import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

log = logging.getLogger(__name__)

LOOK_SECONDS = 2.0
# Looks that must find the worker idle and replaced: Triton may still hand over what it had chosen.
LOOKS = 3


class Generation:
    """The generation of one worker, told to the other workers of its Triton.

    It is told by an abstract socket's name, which needs no folder and goes with its process.
    `idle` says whether the worker has no job.
    """

    def __init__(self, model: str, number: int, idle: Callable[[], bool]) -> None:
        parent = os.getppid()
        self._prefix = f"convlens/{parent}/{_start_of(parent)}/{model}/"
        self._number = number
        self._idle = idle
        self._sign = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        # A worker of the same generation may have said it already.
        with contextlib.suppress(OSError):
            self._sign.bind(f"\0{self._prefix}{number}")
        threading.Thread(target=self._watch, name="generation", daemon=True).start()

    def is_replaced(self) -> bool:
        """Whether a worker of a newer generation is ready."""
        mark = f"@{self._prefix}"
        names = Path("/proc/net/unix").read_text(encoding="utf-8", errors="replace").split()
        numbers = (name.removeprefix(mark) for name in names if name.startswith(mark))
        return any(int(number) > self._number for number in numbers)

    def _watch(self) -> None:
        looks = 0
        while looks < LOOKS:
            time.sleep(LOOK_SECONDS)
            looks = looks + 1 if self.is_replaced() and self._idle() else 0
        log.warning("a newer generation answers; this worker ends")
        # Triton would wait for an instance that is dead before it ended this one.
        os._exit(0)


def _start_of(pid: int) -> str:
    """When a process was started, in ticks since the boot: with its number, that is its name."""
    stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    return stat.rpartition(")")[2].split()[19]
