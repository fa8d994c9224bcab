"""Replies to a caller who reads slowly, and how they end."""

import asyncio
from collections.abc import AsyncGenerator

import pytest

from convlens.internal.v1.job_pb2 import Reply
from convlens.server import eager
from convlens.server.eager import eagerly

PREVIEW = bytes(2**20)


async def engine(told: list[int], error: Exception | None = None) -> AsyncGenerator[Reply, None]:
    """A hundred previews of a megabyte, an item after each, and the end; `told` has the last."""
    try:
        for number in range(100):
            told.append(number)
            yield Reply(response=b"%d " % number + PREVIEW, more=True, topic="preview")
            yield Reply(response=b"item %d" % number, more=True)
            await asyncio.sleep(0)
        if error:
            raise error
        yield Reply(response=b"end")
    finally:
        told.append(-1)


async def late(replies: AsyncGenerator[Reply, None], told: list[int]) -> list[bytes]:
    """What somebody reads who takes one reply, and the rest when all was told."""
    read = [(await anext(replies)).response]
    while -1 not in told:
        await asyncio.sleep(0)
    return read + [reply.response async for reply in replies]


def test_a_caller_who_lags_misses_previews_and_neither_items_nor_the_newest_nor_the_end() -> None:
    told: list[int] = []
    read = asyncio.run(late(eagerly(engine(told)), told))
    previews = [int(body.split()[0]) for body in read if len(body) > 2**20]
    assert 1 < len(previews) <= 1 + eager.MOST_BYTES // 2**20
    assert previews == sorted(previews) and previews[0] == 0 and previews[-1] == 99
    assert [body for body in read if body.startswith(b"item")] == [
        b"item %d" % n for n in range(100)
    ]
    assert read[-1] == b"end"


def test_what_the_engine_raises_comes_after_what_it_told() -> None:
    async def run() -> list[bytes]:
        told: list[int] = []
        replies = eagerly(engine(told, KeyError("broken")))
        read: list[bytes] = []
        with pytest.raises(KeyError, match="broken"):
            async for reply in replies:
                read.append(reply.response)
        return read

    read = asyncio.run(run())
    assert len(read) == 200 and read[-1] == b"item 99"


def test_a_caller_who_leaves_ends_the_job() -> None:
    async def run() -> list[int]:
        told: list[int] = []
        replies = eagerly(engine(told))
        await anext(replies)
        await replies.aclose()
        return told

    told = asyncio.run(run())
    assert told[-1] == -1 and len(told) < 10


def test_a_caller_whose_wait_is_cut_off_ends_the_job() -> None:
    async def run() -> list[int]:
        ended: list[int] = []

        async def silent() -> AsyncGenerator[Reply, None]:
            try:
                await asyncio.sleep(60)
                yield Reply()
            finally:
                ended.append(-1)

        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await anext(eagerly(silent()))
        return ended

    assert asyncio.run(run()) == [-1]
