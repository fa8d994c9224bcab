"""How long a piece of work takes, how much memory beyond what was taken before, and how much is."""

import ctypes
import os
import resource
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import torch

STATUS = Path("/proc/self/status")
STATM = Path("/proc/self/statm")
# Writing 5 to it makes Linux forget the peak so far.
CLEAR = Path("/proc/self/clear_refs")
RESET_PEAK = "5"


@dataclass
class Usage:
    """Seconds, and bytes at the peak beyond those at the start: of the GPU where one is used."""

    seconds: float = 0.0
    memory_bytes: int = 0


@contextmanager
def measured(gpu: int | None) -> Generator[Usage]:
    """Measures what happens inside; what it gives is filled in at the end.

    Memory is that of the GPU of this number, or of this process where it is None.
    """
    usage = Usage()
    before, started = _start(gpu), time.perf_counter()
    try:
        yield usage
        if gpu is not None:
            torch.cuda.synchronize(gpu)
    finally:
        usage.seconds = time.perf_counter() - started
        usage.memory_bytes = max(_peak(gpu) - before, 0)


def process_bytes() -> int:
    """Resident memory of this process; its peak where /proc does not say."""
    try:
        return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def device_bytes() -> int:
    """Memory of all GPUs that torch holds for this process; 0 where it uses none."""
    if not torch.cuda.is_initialized():
        return 0
    return sum(torch.cuda.memory_reserved(gpu) for gpu in range(torch.cuda.device_count()))


def _start(gpu: int | None) -> int:
    """Forgets the peak so far, and returns the bytes that are taken now."""
    if gpu is not None:
        torch.cuda.reset_peak_memory_stats(gpu)
        return torch.cuda.memory_allocated(gpu)
    # What was freed and kept for later would hide what is taken: glibc gives it back.
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    with suppress(OSError):
        CLEAR.write_text(RESET_PEAK)
    return _peak(gpu)


def _peak(gpu: int | None) -> int:
    if gpu is not None:
        return torch.cuda.max_memory_allocated(gpu)
    if STATUS.exists():
        lines = (line.partition(":") for line in STATUS.read_text().splitlines())
        return next(int(value.split()[0]) * 1024 for key, _, value in lines if key == "VmHWM")
    # Elsewhere the peak of the process's life; macOS gives bytes.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
