"""Streams of requests: many in flight, answered in order, held back by flow control."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Generator
from contextlib import aclosing, asynccontextmanager, closing, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, TypeVar

from google.protobuf.message import Message

from convlens.contract import check
from convlens.contract.errors import code_name, reason_name
from convlens.server.contract import RPCS, Rpc
from convlens.server.dispatch import Dispatcher, Question
from convlens.server.metrics import Metrics
from convlens.server.rpc import Call, failure_of, stopping

T = TypeVar("T")
# Answers in the order of their requests, each with the size of its request.
Answers: TypeAlias = "asyncio.Queue[tuple[asyncio.Task[Message], int] | None]"


class Spawn(Protocol):
    """Starts a task."""

    def __call__(self, work: Coroutine[Any, Any, T], /) -> asyncio.Task[T]: ...


@dataclass(frozen=True)
class StreamLimits:
    """Requests in flight on a stream and their bytes; seconds for each to be answered.

    `shared` are the bytes of all streams of the server's process.
    """

    window: int
    window_bytes: int
    timeout: float
    shared: "Shared"


class Shared:
    """Bytes that all streams together may have read before their answers have gone out."""

    def __init__(self, most: int) -> None:
        self._left = most
        self._waiting: set[asyncio.Event] = set()

    @property
    def is_full(self) -> bool:
        """Whether only those streams may read that have nothing under way."""
        return self._left < 1

    def take(self, size: int) -> None:
        """So many bytes more were read; fewer where `size` is below 0."""
        self._left -= size
        if size < 0:
            for changed in self._waiting:
                changed.set()

    @contextmanager
    def told(self, changed: asyncio.Event) -> Generator[None]:
        """Has an event set whenever there is more room, while the block runs."""
        self._waiting.add(changed)
        try:
            yield
        finally:
            self._waiting.discard(changed)


class Room:
    """What may still be read of a stream before its answers have gone out.

    Closing it lets go of what is under way, for other streams.
    """

    def __init__(self, limits: StreamLimits) -> None:
        self._inside = 0
        self._requests = limits.window
        self._bytes = limits.window_bytes
        self._held = 0
        self._shared = limits.shared
        self._changed = asyncio.Event()

    def close(self) -> None:
        """The stream has ended, however; what still comes of it is no other's affair."""
        self._shared.take(-self._held)
        self._shared = Shared(0)

    async def wait(self) -> None:
        """Waits until one more request may be read, whatever its size.

        Where streams together hold too much, each may have a single one, so that none waits for
        the callers of others.
        """
        with self._shared.told(self._changed):
            while self._requests < 1 or self._bytes < 1 or (self._inside and self._shared.is_full):
                self._changed.clear()
                await self._changed.wait()

    async def wait_until_empty(self) -> None:
        """Waits until every answer has gone out."""
        while self._inside:
            self._changed.clear()
            await self._changed.wait()

    def enter(self, size: int) -> None:
        """A request was read."""
        self._inside += 1
        self._requests -= 1
        self._bytes -= size
        self._held += size
        self._shared.take(size)

    def leave(self, size: int) -> None:
        """Its answer has gone out."""
        self._inside -= 1
        self._requests += 1
        self._bytes += size
        self._held -= size
        self._shared.take(-size)
        self._changed.set()


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
        answers: Answers = asyncio.Queue()
        with closing(Room(self._limits)) as room:
            async with tasks() as spawn:
                reader = spawn(self._read(call, requests, answers, room, spawn))
                while entry := await answers.get():
                    answer, size = entry
                    yield await answer
                    room.leave(size)
                await reader

    async def _read(
        self,
        call: Call,
        requests: AsyncIterator[Any],
        answers: Answers,
        room: Room,
        spawn: Spawn,
    ) -> None:
        """Starts an answer for each request; the end, good or bad, comes after the answers."""
        try:
            await room.wait()
            async with aclosing(until(requests, self._stop)) as taken:
                async for request in taken:
                    size = request.ByteSize()
                    room.enter(size)
                    answers.put_nowait((spawn(self._answer(call, request)), size))
                    await room.wait()
        finally:
            answers.put_nowait(None)

    async def _answer(self, call: Call, request: Any) -> Message:
        limit = time.monotonic() + self._limits.timeout
        deadline = limit if call.deadline is None else min(limit, call.deadline)
        item = call.part(f"{call.request_id}.{request.id}", deadline)
        try:
            with item.trace:
                body = await self._ask(item, request)
        except Exception as error:
            failure = failure_of(error, item)
            self._count(item, code_name(failure.code), reason_name(failure.reason))
            return self._response(id=request.id, error=failure.status())
        self._count(item, "OK", "")
        return self._response(id=request.id, response=self._answer_type.FromString(body))

    async def _ask(self, item: Call, request: Any) -> bytes:
        check(request)
        inner = request.request
        body = inner.SerializeToString()
        asked = Question(item, self._unary, inner.network, inner, body)
        return await self._dispatcher.run_patiently(asked)

    def _count(self, call: Call, code: str, reason: str) -> None:
        network = call.facts.network
        self._metrics.stream_requests.labels(call.rpc.name, network, code, reason).inc()


@asynccontextmanager
async def tasks() -> AsyncGenerator[Spawn, None]:
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


async def until(requests: AsyncIterator[Any], stop: asyncio.Event) -> AsyncGenerator[Any, None]:
    """The requests, until the server stops: then raises Failure SERVER_STOPPING."""
    stopped = asyncio.ensure_future(stop.wait())
    try:
        while True:
            upcoming = asyncio.ensure_future(anext(requests, None))
            try:
                await asyncio.wait({upcoming, stopped}, return_when=asyncio.FIRST_COMPLETED)
                if not upcoming.done():
                    raise stopping()
            finally:
                upcoming.cancel()
            if (request := upcoming.result()) is None:
                return
            yield request
    finally:
        stopped.cancel()
