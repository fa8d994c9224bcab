"""What a trace tells of a call."""

import asyncio
from pathlib import Path

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from convlens.contract import Failure
from convlens.v1.classification_pb2 import ClassifyRequest, ClassifyStreamRequest
from tests.collector import STAGES, Collector, collecting, seconds_of, told
from tests.server.access.serving import CLASSIFY, STREAM, ask, bearer, entry, write
from tests.server.tracing.staged import PICTURE, REQUEST, SPAN, TRACE, parent, traced

SERVER = 2
ERROR = 2
TOKEN = "convlens_good-314159265358"
BODY = REQUEST.SerializeToString()


@pytest.fixture
def collector():
    with collecting() as found:
        yield found


def calls(collector: Collector) -> list[Span]:
    return [span for span in collector.spans if span.kind == SERVER]


async def test_a_call_and_its_stages_go_on_the_trace_of_the_caller(
    collector: Collector, tmp_path: Path
) -> None:
    tokens = write(tmp_path / "tokens.yaml", entry(TOKEN, "lab"))
    metadata = (*parent(), ("x-request-id", "mine"), *bearer(TOKEN))
    async with traced(traces=collector.url, tokens=tokens) as (engine, channel):
        await ask(channel, CLASSIFY, BODY, metadata)
    [call] = calls(collector)
    assert (call.trace_id.hex(), call.parent_span_id.hex()) == (TRACE, SPAN)
    assert (call.name, call.kind) == ("convlens.v1.ClassificationService/Classify", SERVER)
    assert told(call) == {
        "rpc.system": "grpc",
        "rpc.service": "convlens.v1.ClassificationService",
        "rpc.method": "Classify",
        "rpc.grpc.status_code": 0,
        "convlens.request_id": "mine",
        "convlens.network": "shapes@1",
        "convlens.passes": 1,
        "enduser.id": "lab",
    }
    stages = collector.children(call)
    assert [span.name for span in stages] == STAGES
    lengths = [round(seconds_of(span), 6) for span in stages[1:]]
    assert lengths == [0.001, 0.002, 0.003, 0.004]
    assert seconds_of(call) >= 0.02
    # A worker, and a Triton that traces, go on with the span of the call.
    [job] = engine.jobs
    assert job.traceparent == f"00-{TRACE}-{call.span_id.hex()}-01"
    resource = told(collector.requests[0].resource_spans[0].resource)
    assert resource["service.name"] == "convlens-server"
    sent = b"".join(request.SerializeToString() for request in collector.requests)
    assert TOKEN.encode() not in sent
    assert PICTURE not in sent


async def test_stages_are_never_outside_of_their_call(collector: Collector) -> None:
    async with traced(traces=collector.url) as (engine, channel):
        engine.stages.compute_us = 3_600_000_000
        await ask(channel, CLASSIFY, BODY)
    stages = collector.children(*calls(collector))
    assert sorted(span.name for span in stages) == sorted(STAGES)
    assert sum(seconds_of(span) for span in stages) < 10


async def test_each_request_of_a_stream_is_a_span_within_it(collector: Collector) -> None:
    async with traced(traces=collector.url) as (engine, channel):
        stream = channel.stream_stream(STREAM.path)(metadata=parent())
        for number in (1, 2):
            request = ClassifyStreamRequest(id=number, request=REQUEST)
            await stream.write(request.SerializeToString())
        await stream.write(ClassifyStreamRequest(id=3).SerializeToString())
        await stream.done_writing()
        assert len([answer async for answer in stream]) == 3
    [call] = calls(collector)
    requests = collector.children(call)
    assert [span.name for span in requests] == ["request"] * 3
    of_id = {told(span)["convlens.request_id"].rpartition(".")[2]: span for span in requests}
    for number in "12":
        assert [span.name for span in collector.children(of_id[number])] == STAGES
    bad = told(of_id["3"])
    assert (bad["rpc.grpc.status_code"], bad["convlens.reason"]) == (3, "INVALID_REQUEST")
    assert not collector.children(of_id["3"])
    spans = {span.span_id.hex() for span in requests}
    assert {job.traceparent.split("-")[2] for job in engine.jobs} < spans


async def test_a_request_whose_stream_is_left_ends_with_it(collector: Collector) -> None:
    async with traced(traces=collector.url) as (engine, channel):
        stream = channel.stream_stream(STREAM.path)()
        await stream.write(ClassifyStreamRequest(id=1, request=REQUEST).SerializeToString())
        while not engine.jobs:
            await asyncio.sleep(0)
        stream.cancel()
    [call] = calls(collector)
    [request] = collector.children(call)
    assert told(call)["rpc.grpc.status_code"] == told(request)["rpc.grpc.status_code"] == 1


async def test_failures_are_told_and_those_of_the_server_are_errors(collector: Collector) -> None:
    async with traced(traces=collector.url) as (engine, channel):
        with pytest.raises(Failure):
            await ask(channel, CLASSIFY, ClassifyRequest().SerializeToString())
        engine.error = ValueError("a secret of ours")
        with pytest.raises(Failure):
            await ask(channel, CLASSIFY, BODY)
    bad, broken = calls(collector)
    assert told(bad)["rpc.grpc.status_code"] == 3
    assert told(bad)["convlens.reason"] == "INVALID_REQUEST"
    # It is the caller's error, by OpenTelemetry's conventions.
    assert bad.status.code == 0
    assert told(broken)["rpc.grpc.status_code"] == 13
    assert (broken.status.code, broken.status.message) == (ERROR, "INTERNAL")
    assert b"secret" not in broken.SerializeToString()


@pytest.mark.parametrize("ratio", [0, 1])
async def test_who_begins_a_trace_says_whether_it_is_sampled(
    collector: Collector, ratio: float
) -> None:
    async with traced(traces=collector.url, traces_ratio=ratio) as (engine, channel):
        for metadata in (parent("00"), parent("01"), ()):
            await ask(channel, CLASSIFY, BODY, metadata)
    found = [span.trace_id.hex() for span in calls(collector)]
    assert found[0] == TRACE
    assert len(found) == 1 + ratio
    no, yes, own = (job.traceparent.split("-") for job in engine.jobs)
    assert (no[1], no[3], yes[1], yes[3]) == (TRACE, "00", TRACE, "01")
    assert own[1] != TRACE
    assert int(own[3], 16) & 1 == ratio


@pytest.mark.parametrize("collected", [True, False], ids=["on", "off"])
async def test_what_is_no_traceparent_is_ignored(collector: Collector, collected: bool) -> None:
    wrong = [
        "x",
        "00-x-y-01",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-01-and-more",
        f"00-{TRACE.upper()}-{SPAN}-01",
        "a" * 5000,
    ]
    if collected:
        wrong += [f"ff-{TRACE}-{SPAN}-01", f"00-{'0' * 32}-{SPAN}-01", f"00-{TRACE}-{'0' * 16}-01"]
    async with traced(traces=collector.url if collected else "") as (engine, channel):
        for text in wrong:
            metadata = (("traceparent", text), ("tracestate", "no state \\ =,="))
            await ask(channel, CLASSIFY, BODY, metadata)
    begun = calls(collector)
    assert len(begun) == len(wrong) * collected
    assert not any(span.parent_span_id or span.trace_id.hex() == TRACE for span in begun)
    given = [job.traceparent for job in engine.jobs]
    assert all(text.startswith("00-") for text in given) if collected else not any(given)


async def test_off_a_traceparent_goes_on_as_it_came() -> None:
    async with traced() as (engine, channel):
        await ask(channel, CLASSIFY, BODY, parent())
    assert engine.jobs[0].traceparent == f"00-{TRACE}-{SPAN}-01"
