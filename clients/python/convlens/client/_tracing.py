"""Spans of calls, where the program that calls is itself traced with OpenTelemetry."""

import sys
from collections.abc import Generator
from contextlib import contextmanager

from convlens.client._errors import Call, ConvLensError


@contextmanager
def traced(call: Call) -> Generator[tuple[tuple[str, str], ...], None, None]:
    """A span of kind CLIENT around a call; yields the metadata with which the server goes on.

    It is a child of the span that is current when the block begins, and is itself never current:
    between the results of a stream the caller's own code runs. Without OpenTelemetry's SDK there
    is no span, and the current one's context is what travels.
    """
    # Nothing is imported for it: who is traced has imported this already.
    if "opentelemetry.trace" not in sys.modules:
        yield ()
        return
    from opentelemetry import trace
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    service, _, method = call.path[1:].partition("/")
    span = trace.get_tracer("convlens.client").start_span(
        call.path[1:],
        kind=trace.SpanKind.CLIENT,
        attributes={
            "rpc.system": "grpc",
            "rpc.service": service,
            "rpc.method": method,
            "convlens.request_id": call.request_id,
        },
    )
    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier, trace.set_span_in_context(span))
    try:
        yield tuple(carrier.items())
        span.set_attribute("rpc.grpc.status_code", 0)
    except ConvLensError as error:
        span.set_attribute("rpc.grpc.status_code", error.code.value[0])
        span.set_attribute("convlens.reason", error.reason)
        span.set_status(trace.Status(trace.StatusCode.ERROR, error.reason))
        raise
    finally:
        span.end()
