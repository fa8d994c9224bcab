"""Closing a client ends what is under way, and says so in one way."""

import asyncio
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from typing import Any

import grpc
import grpc.aio
import pytest

from convlens.client import AsyncClient, Cancelled, Client, Health
from convlens.client._calls import begun
from convlens.client.testing import FakeServer
from convlens.contract import ErrorReason, Failure
from convlens.v1 import classification_pb2 as pb

FULL = Failure(ErrorReason.ERROR_REASON_QUEUE_FULL, retry_after=0.3, pool="p", limit=1)


@pytest.fixture
def silent() -> Iterator[FakeServer]:
    """A server that does not answer until the test is over."""
    over = threading.Event()
    with FakeServer({"Classify": lambda _: over.wait(10) and pb.ClassifyResponse()}) as server:
        yield server
        over.set()


def asked(server: FakeServer) -> None:
    """Returns when the first request is there."""
    while not server.requests:
        time.sleep(0.01)


def test_a_closed_client_says_so(connect, server):
    client = connect(server.address)
    client.call("health")
    client.close_client()
    with pytest.raises(Cancelled, match="closed"):
        client.call("health")


@pytest.mark.parametrize("source", [[b"a"] * 20, repeat(b"a")], ids=["short", "endless"])
def test_closing_ends_an_open_stream(connect, server, source):
    client = connect(server.address)
    results = client.stream(source)
    next(results)
    client.close_client()
    with pytest.raises(Cancelled) as caught:
        list(results)
    assert caught.value.reason == "CANCELLED"


def test_a_stream_that_is_given_up_when_its_client_was_closed(server):
    before = set(threading.enumerate())
    client = Client(server.address)
    results = client.classify_stream(repeat(b"a"), in_flight=2)
    next(results)
    client.close()
    # What reads the source has ended, though nobody asked the stream again.
    deadline = time.monotonic() + 5
    while _readers(before) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert _readers(before) == []
    results.close()


def _readers(before: set[threading.Thread]) -> list[str]:
    names = [thread.name for thread in set(threading.enumerate()) - before]
    return [name for name in names if not name.startswith("fake-server")]


def test_closing_ends_a_stream_that_waits_for_an_answer(silent):
    with Client(silent.address) as client, ThreadPoolExecutor(1) as pool:
        result = pool.submit(lambda: list(client.classify_stream([b"a"])))
        asked(silent)
        client.close()
        with pytest.raises(Cancelled):
            result.result(5)


async def test_closing_ends_a_task_that_waits_for_an_answer(silent):
    client = AsyncClient(silent.address)
    task = asyncio.ensure_future(anext(client.classify_stream([b"a"])))
    await asyncio.to_thread(asked, silent)
    await client.close()
    with pytest.raises(Cancelled):
        await task


async def test_closing_leaves_no_task(server):
    client = AsyncClient(server.address)
    results = client.classify_stream(repeat(b"a"), in_flight=2)
    await anext(results)
    await client.close()
    await asyncio.sleep(0.1)
    left = asyncio.all_tasks() - {asyncio.current_task()}
    assert not [task for task in left if "_write" in repr(task.get_coro())]
    await results.aclose()


def test_closing_ends_the_wait_for_the_next_attempt(server):
    server.answers["Classify"] = FULL
    with Client(server.address) as client, ThreadPoolExecutor(1) as pool:
        result = pool.submit(lambda: client.classify(b"x"))
        asked(server)
        client.close()
        with pytest.raises(Cancelled):
            result.result(5)


async def test_closing_ends_the_async_wait_for_the_next_attempt(server):
    server.answers["Classify"] = FULL
    client = AsyncClient(server.address)
    task = asyncio.create_task(client.classify(b"x"))
    await asyncio.to_thread(asked, server)
    await client.close()
    with pytest.raises(Cancelled):
        await task


def test_closing_ends_the_calls_under_way():
    asked, over = threading.Event(), threading.Event()

    def answer(_: Any) -> pb.ClassifyResponse:
        asked.set()
        over.wait(5)
        return pb.ClassifyResponse()

    with FakeServer({"Classify": answer}) as server, ThreadPoolExecutor(1) as pool:
        client = Client(server.address)
        result = pool.submit(lambda: client.classify(b"x"))
        assert asked.wait(5)
        client.close()
        with pytest.raises(Cancelled) as caught:
            result.result(5)
        over.set()
    assert caught.value.reason == "CANCELLED"


async def test_closing_ends_the_awaits_under_way():
    over = threading.Event()
    with FakeServer({"Classify": lambda _: over.wait(5)}) as server:
        client = AsyncClient(server.address)
        task = asyncio.create_task(client.classify(b"x"))
        while not server.requests:
            await asyncio.sleep(0.01)
        await client.close()
        with pytest.raises(Cancelled):
            await task
        over.set()


def test_a_channel_of_ones_own_stays_open(server):
    with grpc.insecure_channel(server.address) as channel:
        with Client(channel=channel) as client:
            assert client.health() is Health.SERVING
        with Client(channel=channel) as client:
            assert client.health() is Health.SERVING


async def test_an_async_channel_of_ones_own_stays_open(server):
    async with grpc.aio.insecure_channel(server.address) as channel:
        for _ in range(2):
            async with AsyncClient(channel=channel) as client:
                assert await client.health() is Health.SERVING


def test_closing_ends_a_stream_over_a_channel_of_ones_own(server):
    with grpc.insecure_channel(server.address) as channel:
        client = Client(channel=channel)
        results = client.classify_stream([b"a"] * 20)
        next(results)
        client.close()
        with pytest.raises(Cancelled):
            list(results)


async def test_closing_ends_calls_over_an_async_channel_of_ones_own(silent):
    async with grpc.aio.insecure_channel(silent.address) as channel:
        client = AsyncClient(channel=channel)
        task = asyncio.create_task(client.classify(b"x"))
        await asyncio.to_thread(asked, silent)
        await client.close()
        with pytest.raises(Cancelled):
            await task


class Begun:
    """A call that notes that it is cancelled."""

    def __init__(self) -> None:
        self.cancelled = threading.Event()

    def cancel(self) -> None:
        self.cancelled.set()


@pytest.fixture
def interruptible():
    """A suite that was started in the background ignores interrupts."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_an_interrupt_while_a_stream_begins_leaves_it_whole_and_ends_it(interruptible):
    call, interrupted = Begun(), threading.Event()

    def begin() -> Begun:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        assert interrupted.wait(10)
        return call

    with pytest.raises(KeyboardInterrupt):
        begun(begin)
    assert not call.cancelled.is_set()
    interrupted.set()
    assert call.cancelled.wait(10)


def test_what_hinders_a_stream_is_raised_where_it_was_begun():
    def begin() -> Begun:
        raise ValueError("closed")

    with pytest.raises(ValueError, match="closed"):
        begun(begin)
    call = Begun()
    assert begun(lambda: call) is call and not call.cancelled.is_set()
