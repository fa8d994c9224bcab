"""The client that blocks."""

# The methods that `unary`, `streaming` and `watching` make are the class's own.
# pyright: reportPrivateUsage=false

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from functools import partial
from types import TracebackType
from typing import Any, Concatenate, Literal, ParamSpec, TypeVar

import grpc

from convlens.client import _operations as operations
from convlens.client._calls import OpenCalls, begun
from convlens.client._errors import Overloaded, Unavailable, translated
from convlens.client._methods import IMAGES, dressed
from convlens.client._operations import Last, Operation, Stream, Survey, Watch
from convlens.client._results import Cost
from convlens.client._security import PathLike, Security
from convlens.client._streams import Events, Feed, feed_of
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
) -> Callable[Concatenate["Client", P], T]:
    """The method that performs what `build` describes."""

    def method(self: "Client", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._perform(build(self._settings, *args, **kwargs))

    return dressed(method, build)


def streaming(
    build: Callable[Concatenate[Settings, P], Stream[S, T] | Survey[S, T]],
) -> Callable[Concatenate["Client", Iterable[S], P], Generator[T, None, None]]:
    """The method that sends what it iterates over through the stream that `build` describes."""

    def method(
        self: "Client", source: Iterable[S], /, *args: P.args, **kwargs: P.kwargs
    ) -> Generator[T, None, None]:
        return self._stream(build(self._settings, *args, **kwargs), source)

    return dressed(method, build, IMAGES)


def estimating(
    build: Callable[Concatenate[Settings, P], Survey[S, Any]],
) -> Callable[Concatenate["Client", Iterable[S], P], Cost]:
    """The method that sends what it iterates over and returns the cost that comes at the end."""

    def method(self: "Client", source: Iterable[S], /, *args: P.args, **kwargs: P.kwargs) -> Cost:
        events = self._stream(build(self._settings, *args, **kwargs), source)
        [done] = deque(events, maxlen=1)
        return done.estimated_cost

    return dressed(method, build, IMAGES)


def watching(
    build: Callable[Concatenate[Settings, P], Watch[T]],
) -> Callable[Concatenate["Client", P], Generator[T, None, None]]:
    """The method that yields what comes of the one request that `build` describes."""

    def method(self: "Client", /, *args: P.args, **kwargs: P.kwargs) -> Generator[T, None, None]:
        return self._watch(build(self._settings, *args, **kwargs))

    return dressed(method, build)


def ending(
    build: Callable[Concatenate[Settings, P], Last[T]],
) -> Callable[Concatenate["Client", P], T]:
    """The method that returns what the last message says of those that `build` describes."""

    def method(self: "Client", /, *args: P.args, **kwargs: P.kwargs) -> T:
        last = build(self._settings, *args, **kwargs)
        [event] = deque(self._watch(last.watch), maxlen=1)
        return last.value(event)

    return dressed(method, build)


class Client:
    """A connection to a ConvLens server; threads may share it.

    `address` is "host:port"; left out, the environment's CONVLENS_SERVER, or 127.0.0.1:50051.
    `timeout` is the time that every call has unless it says otherwise, in seconds.
    `max_message_bytes` bounds one request and one answer. `max_attempts` is how often a call is
    made where no server answers or the server is full. A stream of pictures that breaks is opened
    again as often before its next answer, and goes on with what was not answered; with 1 it ends.
    Calls of the `priority` batch leave room for the interactive ones where the server has much to
    do.

    `tls` says whether the connection is TLS; left out, it is where `ca`, `certificate` or the
    environment says so. `ca` is a file of authorities to trust, in place of those that gRPC knows;
    `certificate` and `key` are files of the client's own, for a server that asks for them. `token`
    is a token, or the path of a file that is read again for every call; without TLS it goes to
    this machine alone, unless `allow_plaintext_token`. What is left out is the environment's:
    CONVLENS_TLS, _CA, _CERTIFICATE, _KEY, _TOKEN or _TOKEN_FILE; an empty token is none.

    A `channel` given here stays its owner's to close, and comes with its own options and TLS.
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
        channel: grpc.Channel | None = None,
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
        settings = Settings.of(
            address, timeout, max_message_bytes, max_attempts, priority, security
        )
        self._settings = settings
        self._owned = channel is None
        self._channel = channel or _open_channel(settings)
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

    def close(self) -> None:
        """Ends the connection; calls under way fail with Cancelled.

        Over a channel of one's own, streams do, and single calls go on to their end.
        """
        self._calls.close()
        if self._owned:
            self._channel.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Client({self.address!r})"

    def _perform(self, operation: Operation[T]) -> T:
        """Calls until it is answered, as long as there is patience."""
        with self._settings.calling(operation.path, operation.missing) as (call, metadata):
            request = self._settings.wire(operation.request)
            patience = self._settings.patience(operation.timeout)
            while True:
                try:
                    with translated(call), self._calls.open():
                        send: grpc.UnaryUnaryMultiCallable[bytes, bytes]
                        send = self._channel.unary_unary(operation.path)
                        answer = send(
                            request,
                            timeout=patience.remaining,
                            metadata=metadata,
                        )
                        return operation.decode(answer, call.request_id)
                except (Overloaded, Unavailable) as error:
                    time.sleep(patience.pause(error))

    def _stream(
        self, stream: Stream[S, T] | Survey[S, T], source: Iterable[S]
    ) -> Generator[T, None, None]:
        with self._settings.calling(stream.path) as (call, metadata):
            feed = feed_of(stream, self._settings, call)
            items = iter(source)
            patience = self._settings.patience_of_stream(stream.timeout)

            def begin(window: Window) -> Any:
                send: grpc.StreamStreamMultiCallable[bytes, bytes]
                send = self._channel.stream_stream(stream.path)
                timeout = patience.remaining if stream.timeout else None
                return begun(partial(send, window.requests(feed, items), timeout, metadata))

            while True:
                window = Window(stream.in_flight)
                try:
                    with feed.judged(), translated(call), self._calls.open():
                        answers = begin(window)
                        try:
                            with self._calls.kept(answers.cancel, window.close):
                                for answer in answers:
                                    result, taken = feed.result(answer)
                                    patience.restore()
                                    window.move(taken)
                                    yield result
                                    self._calls.check()
                        finally:
                            window.close()
                            answers.cancel()
                    break
                except (Overloaded, Unavailable) as error:
                    time.sleep(feed.pause(patience, error))
            feed.finish()

    def _watch(self, watch: Watch[T]) -> Generator[T, None, None]:
        """Asks until the first answer has come, as long as there is patience; then once."""
        with self._settings.calling(watch.path) as (call, metadata):
            request = self._settings.wire(watch.request)
            patience = self._settings.patience(watch.timeout)
            events = Events(watch, call)
            while True:
                try:
                    with translated(call), self._calls.open():
                        send: grpc.UnaryStreamMultiCallable[bytes, bytes]
                        send = self._channel.unary_stream(watch.path)
                        timeout = patience.remaining if watch.timeout else None
                        answers = begun(partial(send, request, timeout, metadata))
                        try:
                            with self._calls.kept(answers.cancel):
                                for answer in answers:
                                    yield events.event(answer)
                                    self._calls.check()
                        finally:
                            answers.cancel()
                    return events.finish()
                except (Overloaded, Unavailable) as error:
                    time.sleep(events.pause(patience, error))


def _open_channel(settings: Settings) -> grpc.Channel:
    options = settings.channel_options()
    if credentials := settings.security.credentials():
        return grpc.secure_channel(settings.address, credentials, options)
    return grpc.insecure_channel(settings.address, options)


class Window:
    """Lets gRPC's thread read the source no further ahead than answers were taken."""

    def __init__(self, size: int) -> None:
        self._room = threading.Semaphore(size)
        self._closed = False

    def requests(self, feed: Feed[S, Any], items: Iterator[S]) -> Iterator[bytes]:
        """The requests of the items, read in the thread that takes them."""
        try:
            number = feed.next
            yield from feed.opening()
            while self._wait():
                if (ready := feed.turn(number, items)) is None:
                    yield from feed.end()
                    return
                yield from ready
                number += 1
        except GeneratorExit:
            raise
        except BaseException as error:
            # In gRPC's thread nobody would hear of it: the caller's thread raises it.
            feed.fail(error)

    def _wait(self) -> bool:
        self._room.acquire()
        return not self._closed

    def move(self, items: int) -> None:
        """So many more items may be read."""
        if items:
            self._room.release(items)

    def close(self) -> None:
        """Nothing more is read."""
        self._closed = True
        self._room.release()
