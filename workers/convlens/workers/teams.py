"""The teams of threads with which torch computes on a CPU, and how to let go of one.

OpenMP gives every thread that computes a team of its own, which stays until that thread ends. As
soon as a process has more of these threads than there are cores, libgomp no longer spins where a
team waits for its last, but sleeps: a gradient of ResNet-18 on two cores took 197 ms beside an idle
team of another thread, and 91 without it. So a thread that has nothing to compute lets go of its
team, and threads that read pictures and write maps do it without one.
"""

import ctypes
import os
import sys
import threading
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch

# omp_pause_soft of OpenMP 5.0: libgomp ends the team, and LLVM's keeps the thread's settings.
_SOFT = 1
# Of a thread that computes alone: torch's number of threads.
_own = threading.local()


def let_go() -> None:
    """Ends the team of the calling thread; the next thing that it computes makes a new one.

    Nothing happens where torch's OpenMP cannot do that.
    """
    if pause := _function("omp_pause_resource_all"):
        pause(_SOFT)


def go_alone() -> None:
    """The calling thread computes without a team from now on, and only this one does."""
    # torch sets the number of a thread when it first looks at it, which would undo ours.
    _own.count = torch.get_num_threads()
    _set_count(1)


def executor(name: str) -> ThreadPoolExecutor:
    """Threads for what is computed beside passes, each of which computes alone."""
    return ThreadPoolExecutor(os.cpu_count(), name, go_alone)


@contextmanager
def together() -> Generator[None]:
    """For whole passes in a thread that computes alone otherwise: with a team, as elsewhere."""
    count = getattr(_own, "count", 0)
    if not count:
        yield
        return
    _set_count(count)
    try:
        yield
    finally:
        _set_count(1)
        let_go()


def _set_count(count: int) -> None:
    # MKL has a number of its own where torch was told one.
    for name in ("omp_set_num_threads", "MKL_Set_Num_Threads_Local"):
        if set_count := _function(name):
            set_count(count)


@cache
def _function(name: str) -> Callable[[int], Any] | None:
    """A function of the libraries that torch is linked with."""
    # It is loaded already, and its names include those of what it needs.
    file = sys.modules["torch._C"].__file__
    try:
        torch_itself = ctypes.CDLL(file)
    except OSError:
        return None
    return getattr(torch_itself, name, None)
