"""Triton's log, line by line into ours."""

import json
import re
from collections import deque
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import IO

import structlog

log: structlog.stdlib.BoundLogger = structlog.get_logger("triton")

# I1121 08:43:56.189884 7503 model_lifecycle.cc:472] "loading: m:1"
HEADER = re.compile(r"([IWEF])\d{4} [\d:.]+ +\d+ (\S+?:\d+)\] *(.*)")
LEVELS = {"I": "info", "W": "warning", "E": "error", "F": "critical"}
# What a machine without a GPU is told on each start.
NO_GPU = re.compile("CudaDriverHelper|NVML|DCGM|pinned|CUDA memory pool disabled")
GPU_DRIVER = Path("/dev/nvidiactl")
KEPT_LINES = 5


class LogForwarder:
    """Reads a log in a thread of its own, so that neither side ever waits for the event loop."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._tail: deque[str] = deque(maxlen=KEPT_LINES)
        self._errors: deque[str] = deque(maxlen=KEPT_LINES)
        self._thread = Thread(target=self._run, name="triton-log", daemon=True)
        self._thread.start()

    def reasons(self) -> str:
        """Why Triton ended: its last errors, or else its last lines."""
        lines = [line.partition("\n")[0] for line in self._errors or self._tail]
        return "\n".join(f"  {line}" for line in dict.fromkeys(lines))

    def join(self, timeout: float) -> None:
        """Waits for the log's end, which comes when Triton and all its stubs are gone."""
        self._thread.join(timeout)

    def _run(self) -> None:
        with self._stream:
            for line in self._stream:
                self._forward(line.decode(errors="replace").rstrip())

    def _forward(self, line: str) -> None:
        level, source, text = parse(line)
        if not text:
            return
        if level != "debug":
            self._tail.append(text)
        if level in ("error", "critical"):
            self._errors.append(text)
        # Whatever is wrong with our log, Triton's must be read on: a full pipe would stop it.
        with suppress(Exception):
            getattr(log, level)(text, **({"source": source} if source else {}))


def parse(line: str) -> tuple[str, str, str]:
    """A line's level in our log, the place in Triton's code that wrote it, and its text."""
    header = HEADER.fullmatch(line)
    if header:
        level, source, text = LEVELS[header[1]], header[2], _unquoted(header[3].strip())
    else:
        # A model's print, a line of a traceback or of a table, or Triton's last words.
        level, source, text = "error" if line.startswith("error:") else "info", "", line
    if text.startswith(("+-", "| ")) or (NO_GPU.search(text) and not GPU_DRIVER.exists()):
        level = "debug"
    return level, source, text


def _unquoted(text: str) -> str:
    """Triton writes most messages as quoted strings, with their line breaks escaped."""
    try:
        message = json.loads(text)
    except ValueError:
        return text
    return message if isinstance(message, str) else text
