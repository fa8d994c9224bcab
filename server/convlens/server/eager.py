"""Replies on their way to a caller who may read slowly, or not at all."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from convlens.contract.backlog import Backlog
from convlens.internal.v1.job_pb2 import Reply

# Of progress and previews, what may wait for one caller.
MOST_BYTES = 16 * 2**20


async def eagerly(replies: AsyncGenerator[Reply, None]) -> AsyncGenerator[Reply, None]:
    """An engine's replies, taken as they come: else they would pile up in the engine.

    A caller who lags behind is spared what later replies replace. Closes `replies`.
    """
    waiting = Backlog[Reply](MOST_BYTES)
    changed = asyncio.Event()

    async def read() -> None:
        async with aclosing(replies):
            async for reply in replies:
                waiting.put(reply, reply.ByteSize(), reply.topic)
                changed.set()

    reader = asyncio.create_task(read())
    reader.add_done_callback(lambda _: changed.set())
    try:
        while not reader.done():
            await changed.wait()
            changed.clear()
            while reply := waiting.take():
                yield reply
        while reply := waiting.take():
            yield reply
        await reader
    finally:
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)
