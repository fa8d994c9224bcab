"""Answers that do not end, or end early, and what becomes of a call whose task is cancelled."""

import asyncio
import threading
import time
from collections.abc import AsyncIterable, Callable, Iterator
from typing import Any

import pytest

from convlens.client import AsyncClient
from convlens.client.testing import FakeServer
from convlens.contract import ErrorReason, Failure

STOPPING = Failure(ErrorReason.ERROR_REASON_SERVER_STOPPING, retry_after=0.01)


def endless(message: Any, ended: threading.Event) -> Callable[[Any], Iterator[Any]]:
    """The same message until the call ends."""

    def answer(_: Any) -> Iterator[Any]:
        try:
            while True:
                yield message
                time.sleep(0.01)
        finally:
            ended.set()

    return answer


def breaking(
    answer: Callable[[Any], Iterator[Any]], after: int, error: Failure = STOPPING
) -> Callable[[Any], Iterator[Any]]:
    """The answer, but for an error after so many messages, the first time."""
    calls: list[int] = []

    def broken(request: Any) -> Iterator[Any]:
        calls.append(1)
        for number, response in enumerate(answer(request)):
            if len(calls) == 1 and number == after:
                raise error
            yield response

    return broken


async def check_cancelled_task(
    rpc: str, message: Any, ask: Callable[[AsyncClient], AsyncIterable[Any]]
) -> None:
    """A task that is cancelled while it reads an answer ends the call."""
    ended, begun = threading.Event(), asyncio.Event()
    with FakeServer({rpc: endless(message, ended)}) as server:
        async with AsyncClient(server.address) as client:

            async def consume() -> None:
                async for _ in ask(client):
                    begun.set()

            task = asyncio.create_task(consume())
            await begun.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await asyncio.to_thread(ended.wait, 5)
