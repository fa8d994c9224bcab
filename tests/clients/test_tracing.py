"""Calls in the traces of the program that makes them."""

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, StatusCode, TraceFlags

from convlens.client import ConvLensError
from convlens.client.methods import Saliency
from convlens.client.testing import FakeServer
from convlens.contract import ErrorReason, Failure
from tests.clients.conftest import Connect

PICTURE = b"a picture"
WITHOUT = """
import sys
from convlens.client import Client
from convlens.client.testing import FakeServer

with FakeServer() as server, Client(server.address) as client:
    client.classify(b"a picture")
assert "traceparent" not in server.requests[0].metadata
found = [name for name in sys.modules if name.startswith("opentelemetry")]
assert not found, found
"""


@pytest.fixture
def finished(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    """The spans that ended in a program that is traced."""
    exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    # What set_tracer_provider sets, once for a process.
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    yield exporter
    provider.shutdown()


def parents(server: FakeServer) -> set[str]:
    return {str(request.metadata["traceparent"]) for request in server.requests}


def named(span: Any) -> str:
    context = span.get_span_context()
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def test_each_way_of_calling_is_a_span_below_the_current_one(
    connect: Connect, server: FakeServer, finished: InMemorySpanExporter
) -> None:
    client = connect(server.address)
    calls = {
        "ClassificationService/Classify": lambda: client.call("classify", PICTURE),
        "ClassificationService/ClassifyStream": lambda: list(client.stream([PICTURE] * 3)),
        "ExplanationService/ExplainStream": lambda: list(
            client.stream(PICTURE, Saliency(), method="explain_stream")
        ),
    }
    for name, call in calls.items():
        with trace.get_tracer("program").start_as_current_span("outer") as outer:
            call()
            assert trace.get_current_span() is outer
        span, _ = finished.get_finished_spans()
        assert (span.name, span.kind) == (f"convlens.v1.{name}", SpanKind.CLIENT)
        assert span.parent is not None
        assert span.parent.span_id == outer.get_span_context().span_id
        assert parents(server) == {named(span)}
        told = dict(span.attributes or {})
        assert told["rpc.grpc.status_code"] == 0
        assert told["convlens.request_id"] == server.requests[0].metadata["x-request-id"]
        assert (told["rpc.service"], told["rpc.method"]) == tuple(span.name.split("/"))
        server.requests.clear()
        finished.clear()


def test_between_results_the_span_of_the_program_is_current(
    server: FakeServer, connect: Connect, finished: InMemorySpanExporter
) -> None:
    with trace.get_tracer("program").start_as_current_span("outer") as outer:
        results = connect(server.address).stream([PICTURE] * 3)
        next(results)
        assert trace.get_current_span() is outer
        assert not finished.get_finished_spans()
        # Who stops early is at no fault.
        results.close()
        [span] = finished.get_finished_spans()
        assert span.status.status_code is StatusCode.UNSET


def test_attempts_are_within_one_span_that_says_what_failed(
    connect: Connect, finished: InMemorySpanExporter
) -> None:
    full = Failure(ErrorReason.ERROR_REASON_QUEUE_FULL, retry_after=0.001, pool="x")
    with FakeServer({"Classify": full}) as server:
        with pytest.raises(ConvLensError):
            connect(server.address, max_attempts=3).call("classify", PICTURE)
        assert len(server.requests) == 3
        [span] = finished.get_finished_spans()
        assert span.parent is None
        assert parents(server) == {named(span)}
    told = dict(span.attributes or {})
    assert (told["rpc.grpc.status_code"], told["convlens.reason"]) == (8, "QUEUE_FULL")
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "QUEUE_FULL")


def test_without_the_sdk_the_current_context_travels(connect: Connect, server: FakeServer) -> None:
    client = connect(server.address)
    client.call("classify", PICTURE)
    assert "traceparent" not in server.requests.pop().metadata
    context = SpanContext(0xABC, 0xDEF, is_remote=True, trace_flags=TraceFlags(1))
    with trace.use_span(NonRecordingSpan(context)):
        client.call("classify", PICTURE)
        list(client.stream([PICTURE]))
    assert parents(server) == {f"00-{0xABC:032x}-{0xDEF:016x}-01"}


def test_a_program_that_is_not_traced_imports_nothing_for_it() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", WITHOUT], capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 0, ended.stderr
