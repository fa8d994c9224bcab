"""What both clients share of streams: what came, what is missing, when to try again."""

import threading
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Generic, TypeVar, cast

from convlens.client._errors import (
    Call,
    ConvLensError,
    Internal,
    InvalidRequest,
    Overloaded,
    Unavailable,
)
from convlens.client._operations import Stream, Survey, Watch
from convlens.client._transport import Patience, Settings

S = TypeVar("S")
T = TypeVar("T")
# Bytes of an entry of a request beside its own, and of the request beside its entries, at most.
AROUND_ENTRY = 12


class Feed(ABC, Generic[S, T]):
    """What one stream sends of its source, and what the answers mean.

    An item that cannot be encoded is replaced by one that the server refuses, so its error comes
    out in its place without a second order to keep. One thread or task may send while another
    receives.
    """

    def __init__(self, settings: Settings, call: Call) -> None:
        self.call = call
        self._settings = settings
        self._source_ended = False
        self._source_error: BaseException | None = None
        # A thread whose stream broke may still wait for an item that the next stream is to send.
        self._reading = threading.Lock()

    @property
    def next(self) -> int:
        """The number of the item that a stream begins with."""
        return 0

    def kept(self, number: int) -> list[bytes] | None:
        """The requests of an item that was read and not answered; None where there is none."""
        return None

    def turn(self, number: int, items: Iterator[S]) -> list[bytes] | None:
        """The requests of the item of this number, read where it was not; None after the last."""
        with self._reading:
            return self.kept(number) or self.read(items)

    def pause(self, patience: Patience, error: Overloaded | Unavailable) -> float:
        """Seconds before a broken stream is opened again; raises the error where it is not."""
        raise error

    def read(self, items: Iterator[S]) -> list[bytes] | None:
        """The requests that the next item completes; None where there is none."""
        for item in items:
            return self.requests(item)
        return None

    def opening(self) -> list[bytes]:
        """The requests before the first item."""
        return []

    @abstractmethod
    def requests(self, item: S) -> list[bytes]:
        """The requests that this item completes."""

    def end(self) -> list[bytes]:
        """The source has ended; the requests after its last item."""
        self._source_ended = True
        return []

    def fail(self, error: BaseException) -> None:
        """The source has ended with an error of its own."""
        self._source_ended = True
        self._source_error = error

    @abstractmethod
    def result(self, data: bytes) -> tuple[T, int]:
        """What the next answer means, and how many items it is of."""

    def finish(self) -> None:
        """The answers are over: raises what kept the stream from its end."""
        if self._source_error is not None:
            raise self._source_error

    @contextmanager
    def judged(self) -> Generator[None, None, None]:
        """Where the source failed, says so, and not what the server thinks of the rest."""
        try:
            yield
        except InvalidRequest as error:
            if self._source_error is not None:
                raise self._source_error from error
            raise


class StreamFeed(Feed[S, T]):
    """Numbers the requests of a stream, each of one item, which is answered in its turn.

    What is not answered is kept, no more than is in flight: where the stream breaks, the next one
    begins with it.
    """

    def __init__(self, stream: Stream[S, T], settings: Settings, call: Call) -> None:
        super().__init__(settings, call)
        self.stream = stream
        self._sent = 0
        self._received = 0
        self._failed: dict[int, ConvLensError] = {}
        self._unanswered: dict[int, bytes] = {}

    @property
    def next(self) -> int:
        return self._received

    def kept(self, number: int) -> list[bytes] | None:
        data = self._unanswered.get(number)
        return None if data is None else [data]

    def pause(self, patience: Patience, error: Overloaded | Unavailable) -> float:
        # What is wrong with an item, or with the source, is not wrong with the stream.
        if error.index is not None or error is self._source_error:
            raise error
        # Where nobody ever was, a caller wants to know it at once.
        if error.reason == "SERVER_UNREACHABLE" and not self._received:
            raise error
        return patience.pause(error)

    def requests(self, item: S) -> list[bytes]:
        number = self._sent
        try:
            data = self._settings.wire(self.stream.encode(number, item))
        except ConvLensError as error:
            self._failed[number] = error
            data = self._settings.wire(self.stream.encode(number, None))
        self._unanswered[number] = data
        self._sent += 1
        return [data]

    def result(self, data: bytes) -> tuple[T, int]:
        """What the next answer means; raises its error where the caller wants errors raised."""
        number, outcome = self.stream.decode(data, self.call.request_id)
        if number != self._received:
            raise Internal(f"The server answered item {number} where {self._received} was next.")
        self._received += 1
        self._unanswered.pop(number, None)
        result = self._failed.pop(number, outcome)
        if isinstance(result, ConvLensError):
            result.index = number
            if self.stream.on_error == "raise":
                raise result
        return cast(T, result), 1

    def finish(self) -> None:
        super().finish()
        if not self._source_ended or self._received < self._sent:
            raise Internal(f"The server ended the stream after {self._received} answers.")


class SurveyFeed(Feed[S, T]):
    """Puts several items into each request of a survey; their answers come in any order."""

    def __init__(self, survey: Survey[S, T], settings: Settings, call: Call) -> None:
        super().__init__(settings, call)
        self._survey = survey
        self._unsent: list[Any] = []
        self._size = 0
        self._received = 0
        self._ended = False
        # By name, what kept an item from being sent that is not answered yet.
        self._open: dict[str, ConvLensError | None] = {}
        self._none = survey.none

    def opening(self) -> list[bytes]:
        return [self._settings.wire(self._survey.plan)]

    def requests(self, item: S) -> list[bytes]:
        entry, error = self._survey.encode(item)
        if entry.id in self._open:
            raise InvalidRequest(f"The id {entry.id!r} is there twice; each must have its own.")
        self._open[entry.id] = error
        self._none = ""
        size = entry.ByteSize() + AROUND_ENTRY
        too_large = self._size + size + AROUND_ENTRY > self._settings.max_message_bytes
        ready = self._packed() if self._unsent and too_large else []
        self._unsent.append(entry)
        self._size += size
        return [*ready, *(self._packed() if len(self._unsent) == self._survey.most else [])]

    def end(self) -> list[bytes]:
        if self._none:
            raise InvalidRequest(self._none)
        super().end()
        return self._packed() if self._unsent else []

    def _packed(self) -> list[bytes]:
        request = self._survey.pack(self._unsent)
        self._unsent, self._size = [], 0
        return [self._settings.wire(request)]

    def result(self, data: bytes) -> tuple[T, int]:
        self._received += 1
        event: Any = self._survey.decode(data, self.call.request_id)
        if isinstance(event, self._survey.item):
            if event.id not in self._open:
                raise Internal(f"The server answered {event.id!r}, which was not sent.")
            error = self._open.pop(event.id)
            return (replace(event, error=error) if error else event), 1
        self._ended = isinstance(event, self._survey.end)
        if self._ended:
            # What the source gave is not all there is, and must not look so.
            super().finish()
        return event, 0

    def finish(self) -> None:
        super().finish()
        if not self._ended:
            raise _ended_early(self._received)


def feed_of(what: Stream[S, T] | Survey[S, T], settings: Settings, call: Call) -> Feed[S, T]:
    """What sends the items of a source."""
    if isinstance(what, Survey):
        return SurveyFeed(what, settings, call)
    return StreamFeed(what, settings, call)


class Events(Generic[T]):
    """The answers to the one request of a stream, up to the one that says that it is the last."""

    def __init__(self, watch: Watch[T], call: Call) -> None:
        self._watch = watch
        self._call = call
        self._received = 0
        self._ended = False

    def event(self, data: bytes) -> T:
        """What the next answer means."""
        self._received += 1
        event = self._watch.decode(data, self._call.request_id)
        self._ended = isinstance(event, self._watch.end)
        return event

    def pause(self, patience: Patience, error: Overloaded | Unavailable) -> float:
        """Seconds before the next attempt; raises the error where something was answered."""
        if self._received:
            raise error
        return patience.pause(error)

    def finish(self) -> None:
        """The answers are over: raises Internal where the last one is missing."""
        if not self._ended:
            raise _ended_early(self._received)


def _ended_early(received: int) -> Internal:
    return Internal(f"The stream ended early; messages received: {received}.")
