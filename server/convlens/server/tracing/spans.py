"""Calls as spans of OpenTelemetry, and the stages of their jobs as spans within."""

import asyncio
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING

import grpc
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import (
    SpanKind,
    Status,
    StatusCode,
    format_trace_id,
    set_span_in_context,
)
from opentelemetry.trace import Tracer as OpenTelemetryTracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from convlens.contract import Failure
from convlens.contract.errors import reason_name
from convlens.server import __version__
from convlens.server.facts import STAGES, Facts
from convlens.server.tracing.delivery import Delivery
from convlens.server.tracing.trace import Trace, Tracer

if TYPE_CHECKING:
    from convlens.server.rpc import Call

# For the last spans, when the server stops.
CLOSE_SECONDS = 3.0
W3C = TraceContextTextMapPropagator()
# By OpenTelemetry's conventions the other codes are their callers' affair.
FAULTS = frozenset(
    code.value[0]
    for code in (
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DATA_LOSS,
    )
)


class SpanTracer(Tracer):
    """Makes spans of calls and sends them to an OTLP collector, in a thread of its own.

    Of the traces that begin here the share `ratio` is sampled, from 0 to 1; of others those whose
    callers sample them.
    """

    def __init__(self, collector: str, ratio: float) -> None:
        self._delivery = Delivery(collector)
        self._provider = TracerProvider(
            sampler=ParentBased(TraceIdRatioBased(ratio)),
            resource=_resource(),
            # The gateway ends it.
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(BatchSpanProcessor(self._delivery))
        self._tracer = self._provider.get_tracer("convlens.server", __version__)

    def begin(self, call: "Call", tracestate: str) -> "Call":
        """The call with a span of kind SERVER."""
        context = W3C.extract({"traceparent": call.traceparent, "tracestate": tracestate})
        # Of one call all times are of one clock, which nobody sets meanwhile.
        zero = time.time_ns() - time.monotonic_ns()
        return SpanTrace(call, self._tracer, context, zero, SpanKind.SERVER).of(call)

    async def close(self) -> None:
        """Hands over the last spans, unless the collector is known to be away."""
        shutdown = asyncio.ensure_future(asyncio.to_thread(self._provider.shutdown))
        with suppress(TimeoutError):
            async with asyncio.timeout(0 if self._delivery.is_failing else CLOSE_SECONDS):
                await asyncio.shield(shutdown)
        # What waits for the collector gives up, and the thread ends.
        await asyncio.to_thread(self._delivery.shutdown)
        await shutdown


class SpanTrace(Trace):
    """A span, and those of the stages within it, which are made when it ends."""

    def __init__(
        self, call: "Call", tracer: OpenTelemetryTracer, context: Context, zero: int, kind: SpanKind
    ) -> None:
        self._tracer, self._zero, self._facts = tracer, zero, call.facts
        self._span = tracer.start_span(
            call.rpc.path[1:] if kind is SpanKind.SERVER else "request",
            context,
            kind,
            dict(_known_of(call, kind)),
            start_time=self._wall(call.facts.arrived),
        )
        self._context = set_span_in_context(self._span, context)
        self.id = format_trace_id(self._span.get_span_context().trace_id)

    @property
    def traceparent(self) -> str:
        """W3C's name of this span; empty where there is none."""
        carrier: dict[str, str] = {}
        W3C.inject(carrier, self._context)
        return carrier.get("traceparent", "")

    def part(self, call: "Call") -> "Call":
        """A request of this stream, with a span within the stream's."""
        trace = SpanTrace(call, self._tracer, self._context, self._zero, SpanKind.INTERNAL)
        return trace.of(call)

    def of(self, call: "Call") -> "Call":
        """The call with this span, under which those who go on with it make theirs."""
        return replace(call, trace=self, traceparent=self.traceparent or call.traceparent)

    def end(self, failure: Failure | None) -> None:
        """Ends the span, with what is known of the call by now."""
        if failure:
            self._end(failure.code, reason_name(failure.reason))
        else:
            self._end(grpc.StatusCode.OK.value[0])

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None or isinstance(error, Failure):
            self.end(error)
        elif isinstance(error, TimeoutError):
            self._end(grpc.StatusCode.DEADLINE_EXCEEDED.value[0])
        elif isinstance(error, Exception):
            self._end(grpc.StatusCode.INTERNAL.value[0])
        else:
            self._end(grpc.StatusCode.CANCELLED.value[0])

    def _end(self, code: int, reason: str = "") -> None:
        # Not where it is not sampled, nor after its end.
        if not self._span.is_recording():
            return
        for name, begin, end in _stages(self._facts):
            times = self._wall(begin), self._wall(end)
            span = self._tracer.start_span(name, self._context, start_time=times[0])
            span.end(times[1])
        self._span.set_attributes(dict(_learnt(self._facts, code, reason)))
        if code in FAULTS:
            self._span.set_status(Status(StatusCode.ERROR, reason))
        self._span.end(self._wall(time.monotonic()))

    def _wall(self, seconds: float) -> int:
        """Nanoseconds since 1970 at a time of the monotonic clock."""
        return self._zero + round(seconds * 1e9)


def _known_of(call: "Call", kind: SpanKind) -> Iterator[tuple[str, AttributeValue]]:
    yield "convlens.request_id", call.request_id
    if kind is SpanKind.SERVER:
        yield "rpc.system", "grpc"
        yield "rpc.service", call.rpc.service
        yield "rpc.method", call.rpc.path.rpartition("/")[2]
        if call.caller.name:
            yield "enduser.id", call.caller.name


def _learnt(facts: Facts, code: int, reason: str) -> Iterator[tuple[str, AttributeValue]]:
    yield "rpc.grpc.status_code", code
    if reason:
        yield "convlens.reason", reason
    if facts.network:
        yield "convlens.network", facts.network
    if facts.methods:
        yield "convlens.method", facts.method
    if facts.passes:
        yield "convlens.passes", facts.passes


def _stages(facts: Facts) -> Iterator[tuple[str, float, float]]:
    """The stages of an answered job with their begins and ends, on the monotonic clock.

    Of those in the worker only the durations are known: they are laid end to end, and end with
    the answer.
    """
    if not facts.stages:
        return
    yield "admit", facts.arrived, facts.sent
    seconds = [getattr(facts.stages, f"{field}_us") / 1e6 for field in STAGES.values()]
    end = facts.answered - sum(seconds)
    for name, length in zip(STAGES, seconds, strict=True):
        begin, end = end, end + length
        # Whatever a worker says, they are within the time of the job.
        yield name, max(begin, facts.sent), min(max(end, facts.sent), facts.answered)


def _resource() -> Resource:
    """What the server is called; OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES say more."""
    named = os.environ.get("OTEL_SERVICE_NAME") or "convlens-server"
    return Resource.create(
        {
            "service.name": named,
            "service.version": __version__,
            "service.instance.id": uuid.uuid4().hex,
        }
    )
