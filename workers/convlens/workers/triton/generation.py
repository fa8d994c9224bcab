"""Ends a worker once workers of a newer load of its model answer in its place.

Triton 2.51 waits for the dead instance of a model that is loaded again, and meanwhile never ends
the others; so they end themselves (docs/decisions/0009-replaced-workers-end-themselves.md).
"""

import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path

log = logging.getLogger(__name__)

LOOK_SECONDS = 2.0
# Looks that must find the worker idle and replaced: Triton may still hand over what it had chosen.
LOOKS = 3


class Generation:
    """One worker's place among the workers of its model on its Triton; it is ready now.

    Workers of one load share their model's `config`. Each tells the others of itself by the name of
    an abstract socket, which needs no folder and goes with its process. `idle` says whether the
    worker has no job.
    """

    def __init__(self, model: str, config: str, idle: Callable[[], bool]) -> None:
        parent = os.getppid()
        # A socket's name has 107 bytes, and a model's may have more.
        self._prefix = f"convlens/{parent}/{_start_of(parent)}/{_digest(model)}/"
        self._load = _digest(config)
        self._ready = time.monotonic_ns()
        self._idle = idle
        self._sign = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sign.bind(f"\0{self._prefix}{self._load}/{self._ready}")
        threading.Thread(target=self._watch, name="generation", daemon=True).start()

    def is_replaced(self) -> bool:
        """Whether a worker of another load became ready after this one."""
        mark = f"@{self._prefix}"
        names = Path("/proc/net/unix").read_text(encoding="utf-8", errors="replace").split()
        signs = (name.removeprefix(mark).split("/") for name in names if name.startswith(mark))
        return any(load != self._load and int(ready) > self._ready for load, ready in signs)

    def _watch(self) -> None:
        looks = 0
        while looks < LOOKS:
            time.sleep(LOOK_SECONDS)
            looks = looks + 1 if self.is_replaced() and self._idle() else 0
        log.warning("a newer load of the model answers; this worker ends")
        # Triton would wait for an instance that is dead before it ended this one.
        os._exit(0)


def _digest(text: str) -> str:
    return blake2b(text.encode(), digest_size=8).hexdigest()


def _start_of(pid: int) -> str:
    """When a process was started, in ticks since the boot: with its number, that is its name."""
    stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    return stat.rpartition(")")[2].split()[19]
