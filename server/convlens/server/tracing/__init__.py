"""Traces of calls, for OpenTelemetry; nothing of that is imported where they are off."""

from convlens.server.engine import EngineError
from convlens.server.tracing.trace import UNTRACED, Trace, Tracer

__all__ = ["UNTRACED", "Trace", "Tracer", "open_tracer"]


def open_tracer(collector: str, ratio: float) -> Tracer:
    """What traces calls and tells the collector; without an address of one, what traces nothing.

    Raises EngineError where OpenTelemetry is not installed, or its variables are wrong.
    """
    if not collector:
        return Tracer()
    # It comes with the extra alone.
    try:
        from convlens.server.tracing.spans import SpanTracer
    except ModuleNotFoundError as error:
        raise EngineError(
            f'traces needs the package {error.name}: pip install "convlens-server[otel]"'
        ) from None
    try:
        return SpanTracer(collector, ratio)
    except Exception as error:
        # Of whatever type it is: each of its variables has a check of its own.
        raise EngineError(f"traces: a variable OTEL_… cannot be used: {error}") from error
