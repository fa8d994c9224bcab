"""Streams of requests: many in flight, answered in order, held back by flow control."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeAlias, TypeVar

import structlog
from google.protobuf.message import Message

from convlens.contract import ErrorReason, Failure
from convlens.contract.errors import code_name, reason_name
from convlens.server.contract import RPCS, Rpc, check
from convlens.server.dispatch import Dispatcher
from convlens.server.metrics import Metrics
from convlens.server.rpc import Call, out_of_time, stopping

log = structlog.get_logger()

T = TypeVar("T")
Answers: TypeAlias = "asyncio.Queue[asyncio.Task[Message] | None]"


class Spawn(Protocol):
    """Starts a task."""

    def __call__(self, work: Coroutine[Any, Any, T], /) -> asyncio.Task[T]: ...


@dataclass(frozen=True)
class StreamLimits:
    """`window` requests of a stream are in flight; each has `timeout` seconds to be answered."""

    window: int
    timeout: float


class Stream:
    """A bidirectional RPC whose messages each carry an id and the request of a unary RPC.

    `response` is the stream's response type and `answer` the unary one. A request that fails is
    answered with its status, and the stream goes on. Nothing is read while the window is full, so
    a caller who sends faster than the network computes is held back by gRPC's flow control.
    """

    def __init__(
        self,
        unary_path: str,
        response: Callable[..., Message],
        answer: type[Message],
        dispatcher: Dispatcher,
        metrics: Metrics,
        limits: StreamLimits,
        stop: asyncio.Event,
    ) -> None:
        self._unary: Rpc = RPCS[unary_path]
        self._response = response
        self._answer_type = answer
        self._dispatcher = dispatcher
        self._metrics = metrics
        self._limits = limits
        self._stop = stop

    async def run(self, call: Call, requests: AsyncIterator[Any]) -> AsyncGenerator[Message, None]:
        """Yields the responses in the order of the requests."""
        answers: Answers = asyncio.Queue(self._limits.window)
        async with _tasks() as tasks:
            reader = tasks(self._read(call, requests, answers, tasks))
            while answer := await answers.get():
                yield await answer
            await reader

    async def _read(
        self, call: Call, requests: AsyncIterator[Any], answers: Answers, tasks: Spawn
    ) -> None:
        """Starts an answer for each request; the end, good or bad, comes after the answers."""
        try:
            async with aclosing(_until(requests, self._stop)) as taken:
                async for request in taken:
                    await answers.put(tasks(self._answer(call, request)))
        except Exception:
            await answers.put(None)
            raise
        await answers.put(None)

    async def _answer(self, call: Call, request: Any) -> Message:
        limit = time.monotonic() + self._limits.timeout
        deadline = limit if call.deadline is None else min(limit, call.deadline)
        item = replace(call, request_id=f"{call.request_id}.{request.id}", deadline=deadline)
        try:
            body = await self._ask(item, request)
        except Exception as error:
            failure = self._failure(error, item)
            self._count(call, code_name(failure.code), reason_name(failure.reason))
            return self._response(id=request.id, error=failure.status())
        self._count(call, "OK", "")
        return self._response(id=request.id, response=self._answer_type.FromString(body))

    async def _ask(self, item: Call, request: Any) -> bytes:
        """Sends the request; where the queue is full, again when there may be room."""
        check(request)
        inner = request.request
        body = inner.SerializeToString()
        async with asyncio.timeout_at(_loop_time(item.deadline)):
            while True:
                try:
                    return await self._dispatcher.run(item, self._unary, inner.network, body)
                except Failure as failure:
                    if failure.reason != ErrorReason.ERROR_REASON_QUEUE_FULL:
                        raise
                    await asyncio.sleep(failure.retry_after or 0.1)

    def _failure(self, error: Exception, item: Call) -> Failure:
        if isinstance(error, Failure):
            return error
        if isinstance(error, TimeoutError):
            return out_of_time()
        log.error("request of a stream failed", exc_info=error, request_id=item.request_id)
        return Failure(ErrorReason.ERROR_REASON_INTERNAL, request_id=item.request_id)

    def _count(self, call: Call, code: str, reason: str) -> None:
        self._metrics.stream_requests.labels(call.rpc.name, code, reason).inc()


def _loop_time(deadline: float | None) -> float | None:
    """The deadline on the event loop's clock."""
    if deadline is None:
        return None
    return asyncio.get_running_loop().time() + deadline - time.monotonic()


@asynccontextmanager
async def _tasks() -> AsyncGenerator[Spawn, None]:
    """Starts tasks, and leaves none behind: what has not ended with the block is cancelled."""
    live: set[asyncio.Task[Any]] = set()

    def spawn(work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(work)
        live.add(task)
        task.add_done_callback(live.discard)
        return task

    try:
        yield spawn
    finally:
        left = list(live)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


async def _until(requests: AsyncIterator[Any], stop: asyncio.Event) -> AsyncGenerator[Any, None]:
    """The requests, until the server stops: then raises Failure SERVER_STOPPING."""
    stopped = asyncio.ensure_future(stop.wait())
    try:
        while True:
            upcoming = asyncio.ensure_future(anext(requests, None))
            await asyncio.wait({upcoming, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if not upcoming.done():
                upcoming.cancel()
                raise stopping()
            request = upcoming.result()
            if request is None:
                return
            yield request
    finally:
        stopped.cancel()
