"""A collector of OpenTelemetry's traces, as far as tests need one."""

import threading
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as pb
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as services
from opentelemetry.proto.trace.v1.trace_pb2 import Span

STAGES = ["admit", "queue", "decode", "compute", "encode"]


class Collector(services.TraceServiceServicer):
    """Has the spans that came, in the order of their begins, and what told them."""

    def __init__(self) -> None:
        self.requests: list[pb.ExportTraceServiceRequest] = []
        self.url = ""
        # Closed, it takes spans and says nothing.
        self.gate = threading.Event()
        self.gate.set()
        self._changed = threading.Condition()

    def Export(self, request: Any, context: Any) -> pb.ExportTraceServiceResponse:
        self.gate.wait()
        with self._changed:
            self.requests.append(request)
            self._changed.notify_all()
        return pb.ExportTraceServiceResponse()

    @property
    def spans(self) -> list[Span]:
        scopes = [
            scope
            for request in self.requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
        ]
        spans = [span for scope in scopes for span in scope.spans]
        return sorted(spans, key=lambda span: (span.start_time_unix_nano, span.end_time_unix_nano))

    def wait(self, condition: Callable[[], bool], seconds: float = 10) -> None:
        with self._changed:
            assert self._changed.wait_for(condition, seconds)

    def children(self, parent: Span) -> list[Span]:
        """Those of a span, which are within its time and its trace."""
        found = [span for span in self.spans if span.parent_span_id == parent.span_id]
        for span in found:
            assert span.trace_id == parent.trace_id
            assert parent.start_time_unix_nano <= span.start_time_unix_nano
            assert span.start_time_unix_nano <= span.end_time_unix_nano
            assert span.end_time_unix_nano <= parent.end_time_unix_nano
        return found


@contextmanager
def collecting(port: int = 0) -> Generator[Collector]:
    """Collects while the block runs."""
    collector = Collector()
    server = grpc.server(ThreadPoolExecutor(4))
    services.add_TraceServiceServicer_to_server(collector, server)
    collector.url = f"http://127.0.0.1:{server.add_insecure_port(f'127.0.0.1:{port}')}"
    server.start()
    try:
        yield collector
    finally:
        collector.gate.set()
        server.stop(0).wait()


def told(span: Any) -> dict[str, Any]:
    """The attributes of a span, or of another thing that has some."""
    return {
        each.key: getattr(each.value, each.value.WhichOneof("value")) for each in span.attributes
    }


def seconds_of(span: Span) -> float:
    return (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9
