"""Structured logs on standard error: one line an event, as JSON or for people."""

import logging
import sys
from typing import Literal

import structlog


def configure_logs(form: Literal["json", "console"], level: str) -> None:
    """Sends every log line of the process, of libraries too, through one formatter."""
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=_render(form))
    )
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


def _render(form: Literal["json", "console"]) -> list[structlog.types.Processor]:
    strip = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    if form == "json":
        return [strip, structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    # Rich tracebacks show locals: pictures would land in the log, and large ones take seconds.
    plain = structlog.dev.plain_traceback
    return [
        strip,
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain),
    ]
