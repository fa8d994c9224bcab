"""Structured logs on standard error: one line an event, as JSON or for people."""

import atexit
import logging
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, Full, Queue
from threading import Event, Thread
from typing import Literal, TextIO, cast

import structlog

# What waits for a reader who is slow, and the seconds that he has for it at the end.
MOST_LINES = 10_000
END_SECONDS = 1.0
# So long lines are gathered: a thread that wakes for each costs a call more than the line does.
GATHER_SECONDS = 0.02


_ends: list[Callable[[], None]] = []


class _Losing:
    """A file that loses what cannot be written: no call fails or waits for its line.

    The disk may be full, and whoever reads a pipe may have stopped.
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._lines = Queue[str](MOST_LINES)
        self._ending = Event()
        Thread(target=self._work, name="log", daemon=True).start()

    def write(self, text: str) -> int:
        with suppress(Full):
            self._lines.put_nowait(text)
        return len(text)

    def flush(self) -> None: ...

    def end(self) -> None:
        """Waits for the last lines, if somebody takes them."""
        self._ending.set()
        until = time.monotonic() + END_SECONDS
        while self._lines.unfinished_tasks and time.monotonic() < until:
            time.sleep(0.005)

    def _work(self) -> None:
        while True:
            texts = [self._lines.get()]
            self._ending.wait(GATHER_SECONDS)
            with suppress(Empty):
                while True:
                    texts.append(self._lines.get_nowait())
            with suppress(OSError, ValueError):
                self._file.write("".join(texts))
                self._file.flush()
            for _ in texts:
                self._lines.task_done()


class _Named(structlog.WriteLogger):
    """Writes to a file, and has the name of its module for the lines."""

    def __init__(self, file: TextIO, name: str = "convlens") -> None:
        super().__init__(file)
        self.name = name


def configure_logs(form: Literal["json", "console"], level: str) -> None:
    """Sends every log line of the process to standard error, in one form.

    Our own lines, of which each call has one, are written at once; those of libraries come by way
    of the standard library, whose records would cost a call twice as much.
    """
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    render = _render(form)
    losing = _Losing(sys.stderr)
    _ends.append(losing.end)
    file = cast(TextIO, losing)
    structlog.configure(
        processors=[*shared, *render],
        logger_factory=lambda *name: _Named(file, *name),
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=False,
    )
    strip = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    handler = logging.StreamHandler(file)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder()],
            processors=[strip, *render],
        )
    )
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


@atexit.register
def end_logs() -> None:
    """Writes the last lines; called where a process ends without the interpreter's own end, too."""
    for end in _ends:
        end()


def _render(form: Literal["json", "console"]) -> list[structlog.types.Processor]:
    if form == "json":
        return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    # Rich tracebacks show locals: pictures would land in the log, and large ones take seconds.
    plain = structlog.dev.plain_traceback
    return [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain)]
