"""Streams of many callers in one process: together they hold no more than the server may."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from convlens.internal.v1.job_pb2 import Job, Reply
from convlens.server.gateway import Gateway
from convlens.server.metrics import Metrics
from convlens.server.settings import Settings
from convlens.server.streams import Room, Shared, StreamLimits
from convlens.v1.classification_pb2 import (
    ClassifyRequest,
    ClassifyStreamRequest,
    ClassifyStreamResponse,
)
from convlens.v1.image_pb2 import Image
from convlens.v1.network_pb2 import Network
from tests.server.quiet_engine import Quiet

STREAM = "/convlens.v1.ClassificationService/ClassifyStream"
SIZE, MOST = 400_000, 2**20


class Holding(Quiet):
    """Answers nothing until it is `free`."""

    def __init__(self) -> None:
        self.free = asyncio.Event()

    async def call(self, network: Network, job: Job) -> Reply:
        await self.free.wait()
        return Reply(response=b"")


@asynccontextmanager
async def serving(engine: Quiet) -> AsyncGenerator[grpc.aio.Channel]:
    free: dict[str, Any] = {"listen": "127.0.0.1:0", "metrics_listen": "off", "drain_timeout": 0}
    settings = Settings(max_bytes=MOST, **free)
    async with (
        Gateway(settings, engine, Metrics()) as gateway,
        grpc.aio.insecure_channel(str(gateway.address)) as channel,
    ):
        yield channel


async def test_streams_hold_no_more_together_than_the_server_may(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine, held = Holding(), 0
    enter, leave = Room.enter, Room.leave

    def counted(way: Any, sign: int) -> Any:
        def count(room: Room, size: int) -> None:
            nonlocal held
            held += sign * size
            way(room, size)

        return count

    monkeypatch.setattr(Room, "enter", counted(enter, 1))
    monkeypatch.setattr(Room, "leave", counted(leave, -1))

    async def requests() -> AsyncIterator[bytes]:
        picture = Image(encoded=bytes(SIZE))
        for number in range(10):
            request = ClassifyRequest(images=[picture])
            yield ClassifyStreamRequest(id=number, request=request).SerializeToString()

    async def answers(channel: grpc.aio.Channel) -> list[int]:
        call: Any = channel.stream_stream(STREAM)(requests())
        return [ClassifyStreamResponse.FromString(answer).id async for answer in call]

    async with serving(engine) as channel, asyncio.TaskGroup() as group:
        streams = [group.create_task(answers(channel)) for _ in range(6)]
        before = -1
        while held != before:
            before = held
            await asyncio.sleep(0.3)
        # All that they may have, and one more of each.
        assert MOST <= held < MOST + 6 * 2 * SIZE < 6 * 10 * SIZE
        engine.free.set()
        assert [await each for each in streams] == [list(range(10))] * 6
    assert held == 0


@pytest.fixture
def limits() -> StreamLimits:
    return StreamLimits(window=4, window_bytes=100, timeout=1, shared=Shared(10))


async def waits(room: Room) -> bool:
    try:
        await asyncio.wait_for(room.wait(), 0.02)
    except TimeoutError:
        return True
    return False


async def test_each_stream_may_have_one_request_where_others_have_all(limits: StreamLimits) -> None:
    greedy, modest = Room(limits), Room(limits)
    greedy.enter(20)
    assert await waits(greedy) and not await waits(modest)
    modest.enter(1)
    assert await waits(modest)
    waiting = asyncio.create_task(modest.wait())
    await asyncio.sleep(0)
    greedy.leave(20)
    await asyncio.wait_for(waiting, 1)


async def test_a_stream_that_ends_holds_nothing_more(limits: StreamLimits) -> None:
    gone, left = Room(limits), Room(limits)
    gone.enter(20)
    left.enter(1)
    assert await waits(left)
    gone.close()
    assert not await waits(left)
    # What comes of it afterwards is counted nowhere.
    gone.enter(20)
    gone.leave(20)
    gone.leave(20)
    assert not await waits(left)
