"""How the asyncio client sends a stream."""

import asyncio
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterable,
    Iterator,
)
from contextlib import suppress
from typing import Any, Generic, TypeAlias, TypeVar

import grpc.aio

from convlens.client._streams import Feed

S = TypeVar("S")
Take: TypeAlias = Callable[[], Coroutine[Any, Any, list[bytes] | None]]


async def write(
    answers: grpc.aio.StreamStreamCall[bytes, bytes],
    feed: Feed[S, Any],
    reader: "Reader[S]",
    room: asyncio.Semaphore,
) -> None:
    """Sends the items of the source, none of them read before there is room for it."""
    send = sender(answers)
    # Where the call is over, its reader says why.
    with suppress(Exception):
        await answers.wait_for_connection()
        async for request in _requests(feed, reader, room):
            await send(request)
        await answers.done_writing()


def sender(
    answers: grpc.aio.StreamStreamCall[bytes, bytes],
) -> Callable[[bytes], Awaitable[None]]:
    """What sends one request.

    Where the server ends the call while a request is on its way, grpc's own `write` makes the
    status of the call INTERNAL: the server's words are lost (28 of 200 streams that a server
    stopped), and answers not read yet cannot be read any more. What lies below it only fails.
    """
    below = getattr(answers, "_cython_call", None)
    return getattr(below, "send_serialized_message", answers.write)


async def _requests(
    feed: Feed[S, Any], reader: "Reader[S]", room: asyncio.Semaphore
) -> AsyncIterator[bytes]:
    """The requests of the source; whatever may block runs in a thread."""
    try:
        number = feed.next
        for request in feed.opening():
            yield request
        while await room.acquire() and (ready := await reader.turn(number)) is not None:
            for request in ready:
                yield request
            number += 1
        for request in feed.end():
            yield request
    except Exception as error:
        feed.fail(error)


class Reader(Generic[S]):
    """Reads the source in a task of its own: what broke a stream does not end its source."""

    def __init__(self, feed: Feed[S, Any], source: Iterable[S] | AsyncIterable[S]) -> None:
        self._feed = feed
        self._taking: asyncio.Task[list[bytes] | None] | None = None
        is_async = isinstance(source, AsyncIterable)
        self._take = self._following(aiter(source)) if is_async else self._blocking(iter(source))

    async def turn(self, number: int) -> list[bytes] | None:
        """The requests of the item of this number, read where it was not; None after the last."""
        if (ready := self._feed.kept(number)) is not None:
            return ready
        if self._taking is None:
            self._taking = asyncio.create_task(self._taken())
            self._taking.add_done_callback(lambda task: task.cancelled() or task.exception())
        return await asyncio.shield(self._taking)

    async def aclose(self) -> None:
        """Nothing more is read."""
        if self._taking:
            self._taking.cancel()
            await asyncio.gather(self._taking, return_exceptions=True)

    async def _taken(self) -> list[bytes] | None:
        try:
            return await self._take()
        except Exception as error:
            # Nobody may wait for it now, and the next who does must not find a mere end.
            self._feed.fail(error)
            raise
        finally:
            self._taking = None

    def _blocking(self, items: Iterator[S]) -> Take:
        async def take() -> list[bytes] | None:
            return await asyncio.to_thread(self._feed.read, items)

        return take

    def _following(self, items: AsyncIterator[S]) -> Take:
        async def take() -> list[bytes] | None:
            try:
                item = await anext(items)
            except StopAsyncIteration:
                return None
            return await asyncio.to_thread(self._feed.requests, item)

        return take
