"""Streams: order, flow control, memory, errors of items and of the whole, ends."""

import asyncio
import threading
import time
import weakref
from collections.abc import AsyncIterator, Iterable, Iterator
from itertools import count, islice
from typing import Any, cast

import grpc.aio
import numpy as np
import pytest

from convlens.client import (
    AsyncClient,
    Client,
    ConvLensError,
    DeadlineExceeded,
    ImageFileNotFound,
    Internal,
    InvalidImage,
    InvalidRequest,
    MessageTooLarge,
    Unavailable,
)
from convlens.client._sending import sender
from convlens.client.testing import FakeServer
from convlens.contract import ErrorReason, Failure
from convlens.v1 import classification_pb2 as pb
from convlens.v1 import target_pb2
from tests.clients.streaming import breaking

STOPPING = Failure(ErrorReason.ERROR_REASON_SERVER_STOPPING, retry_after=0.1)
STOPPING_NOW = Failure(ErrorReason.ERROR_REASON_SERVER_STOPPING, retry_after=0.01)


def echo(request: pb.ClassifyRequest) -> pb.ClassifyResponse:
    """Labels a picture with its own bytes."""
    if request.images[0].encoded == b"bad":
        reason = ErrorReason.ERROR_REASON_IMAGE_UNREADABLE
        raise Failure(reason, detail="it is bad", formats="PNG")
    score = target_pb2.ClassScore(label=request.images[0].encoded.decode())
    result = pb.ClassifyResult(classification=pb.Classification(classes=[score]))
    return pb.ClassifyResponse(results=[result])


@pytest.fixture
def echoing() -> Iterator[FakeServer]:
    with FakeServer({"Classify": echo}) as server:
        yield server


def numbered(total: int) -> Iterator[bytes]:
    return (str(n).encode() for n in range(total))


def labels(results: Iterable[Any]) -> list[str]:
    return [r.reason if isinstance(r, ConvLensError) else r.top.label for r in results]


@pytest.mark.parametrize("in_flight", [1, 2, 64])
def test_results_come_in_the_order_of_the_images(connect, echoing, in_flight):
    results = connect(echoing.address).stream(numbered(300), in_flight=in_flight)
    assert labels(results) == [str(n) for n in range(300)]


def test_an_empty_stream(connect, echoing):
    assert list(connect(echoing.address).stream([])) == []


def test_what_is_asked_is_asked_of_every_image(connect, server):
    list(connect(server.address).stream([b"a", b"b"], network="pets", top_k=1))
    asked = [request.message.request for request in server.requests]
    assert [(r.network, r.top_k) for r in asked] == [("pets", 1)] * 2
    assert [request.message.id for request in server.requests] == [0, 1]


def test_a_bad_item_ends_the_stream_unless_errors_are_returned(connect, echoing):
    results = connect(echoing.address).stream([b"a", b"bad", b"c"])
    assert next(results).top.label == "a"
    with pytest.raises(InvalidImage, match=r"^item 1: The image cannot be read: it is bad"):
        next(results)


def test_errors_are_returned_in_their_places(connect, echoing):
    source = [b"a", b"bad", "missing.png", bytes(2000), b"e"]
    client = connect(echoing.address, max_message_bytes=1000)
    results = list(client.stream(source, on_error="return"))
    assert labels(results[::4]) == ["a", "e"]
    assert [type(r) for r in results[1:4]] == [InvalidImage, ImageFileNotFound, MessageTooLarge]
    assert [r.index for r in results[1:4]] == [1, 2, 3]


def test_nothing_is_read_ahead_of_the_answers(connect, echoing):
    read: list[int] = []
    source = (read.append(n) or str(n).encode() for n in range(1000))
    taken = 0
    for taken, _ in enumerate(connect(echoing.address).stream(source, in_flight=5, take=20), 1):
        # Time enough for everything to be read, if something would.
        time.sleep(0.005)
        assert len(read) <= taken + 5
    assert taken == 20


def test_nothing_is_read_while_the_server_is_silent(connect):
    release, read = threading.Event(), []

    def answer(requests: Iterator[Any]) -> Iterator[Any]:
        release.wait(5)
        for request in requests:
            yield pb.ClassifyStreamResponse(id=request.id, response=echo(request.request))

    def source() -> Iterator[bytes]:
        for n in range(50):
            read.append(n)
            yield str(n).encode()

    with FakeServer({"ClassifyStream": answer}) as server:
        threading.Timer(0.3, lambda: (seen.append(len(read)), release.set())).start()
        seen: list[int] = []
        results = connect(server.address).stream(source(), in_flight=7)
        assert labels(results) == [str(n) for n in range(50)]
    assert seen == [7]


def test_a_slow_source_does_not_hold_back_what_is_answered(connect, echoing):
    answered = threading.Event()

    def source() -> Iterator[bytes]:
        yield b"first"
        assert answered.wait(5), "the first answer waited for the second picture"
        yield b"second"

    results = connect(echoing.address).stream(source())
    assert next(results).top.label == "first"
    answered.set()
    assert labels(results) == ["second"]


def test_memory_does_not_grow_with_the_stream(connect, echoing):
    alive: set[int] = set()
    most = 0

    def source() -> Iterator[Any]:
        nonlocal most
        for n in range(400):
            picture = np.zeros((8, 8), np.uint8)
            alive.add(n)
            weakref.finalize(picture, alive.discard, n)
            yield picture
            most = max(most, len(alive))

    with FakeServer() as server:
        assert sum(1 for _ in connect(server.address).stream(source(), in_flight=8)) == 400
    assert most <= 10
    assert len(alive) <= 1


def test_an_error_of_the_source_comes_out_after_what_it_gave(connect, echoing):
    def source() -> Iterator[bytes]:
        yield b"a"
        yield b"b"
        raise LookupError("the disk is gone")

    results = connect(echoing.address).stream(source())
    assert [next(results).top.label, next(results).top.label] == ["a", "b"]
    with pytest.raises(LookupError, match="the disk is gone"):
        next(results)


def test_a_source_that_is_none(connect, echoing):
    with pytest.raises(TypeError, match="not iterable"):
        list(connect(echoing.address).stream(3))


def test_options_are_checked_before_anything_is_sent(connect, echoing):
    for options in ({"in_flight": 0}, {"on_error": "skip"}, {"timeout": 0}):
        with pytest.raises(InvalidRequest):
            list(connect(echoing.address).stream([b"a"], **options))
    assert echoing.requests == []


def test_what_no_request_holds_ends_the_stream(connect, echoing):
    with pytest.raises(InvalidRequest, match="top_k is -1; must be at least 0"):
        list(connect(echoing.address).stream([b"a"], top_k=-1, on_error="return"))


def test_a_stream_has_the_time_it_was_given(connect, echoing):
    client = connect(echoing.address)
    list(client.stream([b"a"]))
    list(client.stream([b"a"], timeout=9))
    assert echoing.requests[0].timeout is None
    assert echoing.requests[1].timeout == pytest.approx(9, abs=1)


def test_the_time_of_a_stream_ends_it(connect, echoing):
    def endless() -> Iterator[bytes]:
        while True:
            time.sleep(0.01)
            yield b"a"

    with pytest.raises(DeadlineExceeded):
        list(connect(echoing.address).stream(endless(), timeout=0.3))


def failing_after(answers: int, failure: Failure | None) -> Any:
    def answer(requests: Iterator[Any]) -> Iterator[Any]:
        for request, _ in zip(requests, range(answers), strict=False):
            yield pb.ClassifyStreamResponse(id=request.id, response=echo(request.request))
        if failure is not None:
            raise failure

    return answer


def test_a_server_that_stops_in_the_middle(connect):
    with FakeServer({"ClassifyStream": failing_after(3, STOPPING)}) as server:
        results = connect(server.address, max_attempts=1).stream(numbered(100))
        assert [next(results).top.label for _ in range(3)] == ["0", "1", "2"]
        with pytest.raises(Unavailable, match="stopping") as caught:
            next(results)
    assert caught.value.retry_after == pytest.approx(0.1)
    assert caught.value.request_id


def answered(requests: Iterator[Any]) -> Iterator[Any]:
    for request in requests:
        yield pb.ClassifyStreamResponse(id=request.id, response=echo(request.request))


@pytest.mark.parametrize("after", [0, 3, 99])
@pytest.mark.parametrize("in_flight", [1, 8])
def test_a_stream_goes_on_with_what_was_not_answered(connect, after, in_flight):
    with FakeServer({"ClassifyStream": breaking(answered, after)}) as server:
        results = connect(server.address).stream(numbered(100), in_flight=in_flight)
        assert labels(results) == [str(n) for n in range(100)]
        ids = [request.message.id for request in server.requests]
    assert [ids.count(n) for n in range(after)] == [1] * after, (
        "what was answered is not asked again"
    )


def test_a_stream_has_all_attempts_again_once_something_was_answered(connect):
    def one_each(requests: Iterator[Any]) -> Iterator[Any]:
        yield from islice(answered(requests), 1)
        raise STOPPING_NOW

    with FakeServer({"ClassifyStream": one_each}) as server:
        client = connect(server.address, max_attempts=2)
        assert labels(client.stream(numbered(6), take=6)) == [str(n) for n in range(6)]


def test_a_stream_that_is_never_answered_ends(connect):
    with (
        FakeServer({"ClassifyStream": failing_after(0, STOPPING_NOW)}) as server,
        pytest.raises(Unavailable, match="stopping"),
    ):
        list(connect(server.address, max_attempts=3).stream(numbered(9)))


def test_a_source_that_fails_while_its_stream_breaks(connect):
    def source() -> Iterator[bytes]:
        yield from numbered(5)
        time.sleep(0.05)
        raise LookupError("the disk is gone")

    with FakeServer({"ClassifyStream": breaking(answered, 2)}) as server:
        results = connect(server.address).stream(source())
        assert labels(islice(results, 5)) == [str(n) for n in range(5)]
        with pytest.raises(LookupError, match="the disk is gone"):
            next(results)


async def test_an_async_source_outlives_its_stream():
    async def source() -> AsyncIterator[bytes]:
        for picture in numbered(40):
            await asyncio.sleep(0.002)
            yield picture

    with FakeServer({"ClassifyStream": breaking(answered, 7)}) as server:
        async with AsyncClient(server.address) as client:
            results = [result async for result in client.classify_stream(source())]
    assert labels(results) == [str(n) for n in range(40)]


def test_a_server_that_dies_in_the_middle(connect):
    def endless() -> Iterator[bytes]:
        yield from (b"a" for _ in count())

    with FakeServer({"Classify": echo}) as server:
        results = connect(server.address, max_attempts=1).stream(endless())
        assert next(results).top.label == "a"
        server.stop()
        with pytest.raises(ConvLensError) as caught:
            list(results)
    assert caught.value.reason in ("SERVER_UNREACHABLE", "CANCELLED")


def test_a_server_that_ends_too_early(connect):
    with FakeServer({"ClassifyStream": failing_after(2, None)}) as server:
        results = connect(server.address).stream(numbered(100))
        assert [next(results).top.label for _ in range(2)] == ["0", "1"]
        with pytest.raises(Internal, match="ended the stream after 2"):
            next(results)


def test_a_server_that_mixes_the_order(connect):
    def answer(requests: Iterator[Any]) -> Iterator[Any]:
        first, second = next(requests), next(requests)
        for request in (second, first):
            yield pb.ClassifyStreamResponse(id=request.id, response=echo(request.request))

    with (
        FakeServer({"ClassifyStream": answer}) as server,
        pytest.raises(Internal, match="item 1 where 0 was next"),
    ):
        list(connect(server.address).stream(numbered(2)))


def test_leaving_a_stream_ends_it_on_both_sides(connect):
    ended = threading.Event()

    def answer(requests: Iterator[Any]) -> Iterator[Any]:
        try:
            for request in requests:
                yield pb.ClassifyStreamResponse(id=request.id, response=echo(request.request))
        finally:
            ended.set()

    def endless() -> Iterator[bytes]:
        yield from (b"a" for _ in count())

    with FakeServer({"ClassifyStream": answer}) as server:
        before = set(threading.enumerate())
        assert len(list(connect(server.address).stream(endless(), take=3))) == 3
        assert ended.wait(5)
        deadline = time.monotonic() + 5
        while _readers(before) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert _readers(before) == []


def _readers(before: set[threading.Thread]) -> list[str]:
    """The new threads that belong neither to the server nor to asyncio: those that read."""
    names = [thread.name for thread in set(threading.enumerate()) - before]
    return [name for name in names if not name.startswith(("fake-server", "asyncio"))]


async def test_an_async_source(echoing):
    async def source() -> AsyncIterator[bytes]:
        for picture in numbered(100):
            await asyncio.sleep(0)
            yield picture

    async with AsyncClient(echoing.address) as client:
        results = [result.top.label async for result in client.classify_stream(source())]
    assert results == [str(n) for n in range(100)]


async def test_an_error_of_an_async_source(echoing):
    async def source() -> AsyncIterator[bytes]:
        yield b"a"
        raise LookupError("the queue is gone")

    async with AsyncClient(echoing.address) as client:
        results = client.classify_stream(source())
        assert (await anext(results)).top.label == "a"
        with pytest.raises(LookupError, match="the queue is gone"):
            await anext(results)


async def test_a_blocking_source_does_not_hold_up_the_loop(echoing):
    proceed = threading.Event()

    def source() -> Iterator[bytes]:
        assert proceed.wait(5), "the loop stood still"
        yield b"a"

    async with AsyncClient(echoing.address) as client:
        first = cast(Any, anext(client.classify_stream(source())))
        task = asyncio.create_task(first)
        await asyncio.sleep(0.05)
        proceed.set()
        assert (await task).top.label == "a"


async def test_a_cancelled_task_ends_its_stream(server):
    async def source() -> AsyncIterator[bytes]:
        yield b"a"
        await asyncio.Event().wait()

    async def consume() -> None:
        async for _ in client.classify_stream(source()):
            answered.set()

    answered = asyncio.Event()
    async with AsyncClient(server.address) as client:
        task = asyncio.create_task(consume())
        await answered.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not [t for t in left if "_write" in repr(t.get_coro())]


def test_several_streams_of_one_client(echoing):
    with Client(echoing.address) as client:
        first = client.classify_stream(numbered(50), in_flight=3)
        second = client.classify_stream(numbered(50), in_flight=5)
        pairs = [(a.top.label, b.top.label) for a, b in zip(first, second, strict=True)]
    assert pairs == [(str(n), str(n)) for n in range(50)]


def test_a_server_that_dies_before_the_first_answer(connect):
    over = threading.Event()

    def stop(server: FakeServer) -> None:
        while not server.requests:
            time.sleep(0.01)
        server.stop()
        over.set()

    with FakeServer({"Classify": lambda request: over.wait(20) and echo(request)}) as server:
        threading.Thread(target=stop, args=[server]).start()
        with pytest.raises(Unavailable) as caught:
            list(connect(server.address).stream([b"a"], timeout=10))
    assert caught.value.reason == "SERVER_UNREACHABLE"


async def test_requests_go_below_what_grpc_shows(server):
    # `sender` says why. A grpc without this loses the errors of streams that a server ends.
    async with grpc.aio.insecure_channel(server.address) as channel:
        call: Any = channel.stream_stream("/convlens.v1.ClassificationService/ClassifyStream")()
        below = call._cython_call.send_serialized_message
        assert sender(call) == below
        call.cancel()
