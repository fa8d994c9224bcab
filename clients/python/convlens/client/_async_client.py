"""The client for asyncio."""

# The methods that `unary`, `streaming` and `watching` make are the class's own.
# pyright: reportPrivateUsage=false

import asyncio
import os
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    Callable,
    Coroutine,
    Generator,
    Iterable,
)
from contextlib import aclosing, contextmanager
from functools import partial
from types import TracebackType
from typing import Any, Concatenate, Literal, ParamSpec, TypeVar

import grpc
import grpc.aio

from convlens.client import _operations as operations
from convlens.client._calls import OpenCalls, closed_error
from convlens.client._errors import Overloaded, Unavailable, translated
from convlens.client._methods import IMAGES, dressed
from convlens.client._operations import Last, Operation, Stream, Survey, Watch
from convlens.client._results import Cost
from convlens.client._security import PathLike, Security
from convlens.client._sending import Reader, write
from convlens.client._streams import Events, feed_of
from convlens.client._transport import (
    DEFAULT_TIMEOUT,
    MAX_ATTEMPTS,
    MAX_MESSAGE_BYTES,
    Settings,
)

P = ParamSpec("P")
S = TypeVar("S")
T = TypeVar("T")


def unary(
    build: Callable[Concatenate[Settings, P], Operation[T]],
) -> Callable[Concatenate["AsyncClient", P], Coroutine[Any, Any, T]]:
    """The method that performs what `build` describes."""

    async def method(self: "AsyncClient", /, *args: P.args, **kwargs: P.kwargs) -> T:
        # Pictures are read and encoded there, which would hold up the loop.
        operation = await asyncio.to_thread(build, self._settings, *args, **kwargs)
        return await self._perform(operation)

    return dressed(method, build)


def streaming(
    build: Callable[Concatenate[Settings, P], Stream[S, T] | Survey[S, T]],
) -> Callable[
    Concatenate["AsyncClient", Iterable[S] | AsyncIterable[S], P], AsyncGenerator[T, None]
]:
    """The method that sends what it iterates over through the stream that `build` describes."""

    def method(
        self: "AsyncClient",
        source: Iterable[S] | AsyncIterable[S],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> AsyncGenerator[T, None]:
        return self._stream(build(self._settings, *args, **kwargs), source)

    return dressed(method, build, IMAGES)


def estimating(
    build: Callable[Concatenate[Settings, P], Survey[S, Any]],
) -> Callable[
    Concatenate["AsyncClient", Iterable[S] | AsyncIterable[S], P], Coroutine[Any, Any, Cost]
]:
    """The method that sends what it iterates over and returns the cost that comes at the end."""

    async def method(
        self: "AsyncClient",
        source: Iterable[S] | AsyncIterable[S],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Cost:
        survey = build(self._settings, *args, **kwargs)
        async with aclosing(self._stream(survey, source)) as events:
            last = [event async for event in events][-1]
        return last.estimated_cost

    return dressed(method, build, IMAGES)


def watching(
    build: Callable[Concatenate[Settings, P], Watch[T]],
) -> Callable[Concatenate["AsyncClient", P], AsyncGenerator[T, None]]:
    """The method that yields what comes of the one request that `build` describes."""

    async def method(
        self: "AsyncClient", /, *args: P.args, **kwargs: P.kwargs
    ) -> AsyncGenerator[T, None]:
        watch = await asyncio.to_thread(build, self._settings, *args, **kwargs)
        async with aclosing(self._watch(watch)) as events:
            async for event in events:
                yield event

    return dressed(method, build)


def ending(
    build: Callable[Concatenate[Settings, P], Last[T]],
) -> Callable[Concatenate["AsyncClient", P], Coroutine[Any, Any, T]]:
    """The method that returns what the last message says of those that `build` describes."""

    async def method(self: "AsyncClient", /, *args: P.args, **kwargs: P.kwargs) -> T:
        last = await asyncio.to_thread(build, self._settings, *args, **kwargs)
        found: Any = None
        async with aclosing(self._watch(last.watch)) as events:
            async for event in events:
                found = event
        return last.value(found)

    return dressed(method, build)


class AsyncClient:
    """A connection to a ConvLens server, for one event loop; its tasks may share it.

    The parameters are those of Client; `channel` is one of grpc.aio.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        timeout: float = DEFAULT_TIMEOUT,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        max_attempts: int = MAX_ATTEMPTS,
        priority: Literal["interactive", "batch"] = "interactive",
        tls: bool | None = None,
        ca: PathLike | None = None,
        certificate: PathLike | None = None,
        key: PathLike | None = None,
        token: str | os.PathLike[str] | None = None,
        allow_plaintext_token: bool = False,
        channel: grpc.aio.Channel | None = None,
    ) -> None:
        security = partial(
            Security.of,
            tls=tls,
            ca=ca,
            certificate=certificate,
            key=key,
            token=token,
            allow_plaintext_token=allow_plaintext_token,
            own_channel=channel is not None,
        )
        self._settings = Settings.of(
            address, timeout, max_message_bytes, max_attempts, priority, security
        )
        self._owned = channel is None
        # Made at the first call, because it belongs to the loop that runs then.
        self._channel = channel
        self._calls = OpenCalls()

    classify = unary(operations.classify)
    classify_stream = streaming(operations.classify_stream)
    extract_features = unary(operations.extract_features)
    extract_features_stream = streaming(operations.extract_features_stream)
    explain = unary(operations.explain)
    explain_stream = watching(operations.explain_stream)
    estimate = unary(operations.estimate)
    attack = unary(operations.attack)
    attack_stream = watching(operations.attack_stream)
    estimate_attack = unary(operations.estimate_attack)
    evaluate_robustness = streaming(operations.evaluate_robustness)
    estimate_robustness = estimating(operations.estimate_robustness)
    synthesize = watching(operations.synthesize)
    synthesize_to_end = ending(operations.synthesize_to_end)
    estimate_synthesis = ending(operations.estimate_synthesis)
    networks = unary(operations.networks)
    network = unary(operations.network)
    pretrained = unary(operations.pretrained)
    health = unary(operations.health)

    @property
    def address(self) -> str:
        """Where the server is: "host:port"."""
        return self._settings.address

    async def close(self) -> None:
        """Ends the connection; calls under way fail with Cancelled."""
        self._calls.close()
        if self._owned and self._channel is not None:
            await self._channel.close()

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"AsyncClient({self.address!r})"

    async def _perform(self, operation: Operation[T]) -> T:
        """Calls until it is answered, as long as there is patience."""
        with self._settings.calling(operation.path, operation.missing) as (call, metadata):
            request = self._settings.wire(operation.request)
            patience = self._settings.patience(operation.timeout)
            while True:
                try:
                    with translated(call), self._open():
                        send: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]
                        send = self._connection().unary_unary(operation.path)
                        answer = send(
                            request,
                            timeout=patience.remaining,
                            metadata=metadata,
                        )
                        with self._calls.kept(answer.cancel):
                            return operation.decode(await answer, call.request_id)
                except (Overloaded, Unavailable) as error:
                    await asyncio.sleep(patience.pause(error))

    async def _stream(
        self, stream: Stream[S, T] | Survey[S, T], source: Iterable[S] | AsyncIterable[S]
    ) -> AsyncGenerator[T, None]:
        with self._settings.calling(stream.path) as (call, metadata):
            feed = feed_of(stream, self._settings, call)
            patience = self._settings.patience_of_stream(stream.timeout)
            async with aclosing(Reader(feed, source)) as reader:
                while True:
                    room = asyncio.Semaphore(stream.in_flight)
                    try:
                        with feed.judged(), translated(call), self._open():
                            send: grpc.aio.StreamStreamMultiCallable[bytes, bytes]
                            send = self._connection().stream_stream(stream.path)
                            timeout = patience.remaining if stream.timeout else None
                            answers = send(timeout=timeout, metadata=metadata)
                            writer = asyncio.create_task(write(answers, feed, reader, room))
                            try:
                                with self._calls.kept(answers.cancel, writer.cancel):
                                    async for answer in answers:
                                        result, items = feed.result(answer)
                                        patience.restore()
                                        for _ in range(items):
                                            room.release()
                                        yield result
                                        self._calls.check()
                            finally:
                                answers.cancel()
                                writer.cancel()
                                await asyncio.gather(writer, return_exceptions=True)
                        break
                    except (Overloaded, Unavailable) as error:
                        await asyncio.sleep(feed.pause(patience, error))
            feed.finish()

    async def _watch(self, watch: Watch[T]) -> AsyncGenerator[T, None]:
        """Asks until the first answer has come, as long as there is patience; then once."""
        with self._settings.calling(watch.path) as (call, metadata):
            request = self._settings.wire(watch.request)
            patience = self._settings.patience(watch.timeout)
            events = Events(watch, call)
            while True:
                try:
                    with translated(call), self._open():
                        send: grpc.aio.UnaryStreamMultiCallable[bytes, bytes]
                        send = self._connection().unary_stream(watch.path)
                        timeout = patience.remaining if watch.timeout else None
                        answers = send(request, timeout=timeout, metadata=metadata)
                        try:
                            with self._calls.kept(answers.cancel):
                                async for answer in answers:
                                    yield events.event(answer)
                                    self._calls.check()
                        finally:
                            answers.cancel()
                    events.finish()
                    return
                except (Overloaded, Unavailable) as error:
                    await asyncio.sleep(events.pause(patience, error))

    def _connection(self) -> grpc.aio.Channel:
        if self._channel is None:
            options = self._settings.channel_options()
            credentials = self._settings.security.credentials()
            self._channel = (
                grpc.aio.secure_channel(self.address, credentials, options)
                if credentials
                else grpc.aio.insecure_channel(self.address, options)
            )
        return self._channel

    @contextmanager
    def _open(self) -> Generator[None, None, None]:
        """Tells a call that ended because the client was closed from a cancelled task."""
        try:
            with self._calls.open():
                yield
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self._calls.closed and not (task and task.cancelling()):
                raise closed_error() from None
            raise
