"""Structured logs on standard error: one line an event, as JSON or for people."""

import logging
import sys
from contextlib import suppress
from typing import Literal, TextIO, cast

import structlog


class _Losing:
    """A file that loses what cannot be written, as on a full disk: no call fails for its line."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, text: str) -> int:
        with suppress(OSError):
            self._file.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._file.flush()


class _Named(structlog.WriteLogger):
    """Writes to standard error, and has the name of its module for the lines."""

    def __init__(self, name: str = "convlens") -> None:
        super().__init__(cast(TextIO, _Losing(sys.stderr)))
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
    structlog.configure(
        processors=[*shared, *render],
        logger_factory=_Named,
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=False,
    )
    strip = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder()],
            processors=[strip, *render],
        )
    )
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


def _render(form: Literal["json", "console"]) -> list[structlog.types.Processor]:
    if form == "json":
        return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    # Rich tracebacks show locals: pictures would land in the log, and large ones take seconds.
    plain = structlog.dev.plain_traceback
    return [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain)]
