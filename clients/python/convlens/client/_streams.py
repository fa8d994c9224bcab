"""What both clients share of streams: what came, what is missing, when to try again."""

from typing import Generic, TypeVar, cast

from convlens.client._errors import Call, ConvLensError, Internal, Overloaded, Unavailable
from convlens.client._operations import Stream, Watch
from convlens.client._transport import Patience, Settings

S = TypeVar("S")
T = TypeVar("T")


class Feed(Generic[S, T]):
    """Numbers the requests of one stream and gives each answer back as its caller wants it.

    An item that cannot be encoded is replaced by a request that the server refuses, so its error
    comes out in its place without a second order to keep. One thread or task may send while
    another receives.
    """

    def __init__(self, stream: Stream[S, T], settings: Settings, call: Call) -> None:
        self.stream = stream
        self.call = call
        self._settings = settings
        self._sent = 0
        self._received = 0
        self._failed: dict[int, ConvLensError] = {}
        self._source_ended = False
        self._source_error: BaseException | None = None

    def request(self, item: S) -> bytes:
        """The bytes of the next request."""
        number = self._sent
        try:
            data = self._settings.wire(self.stream.encode(number, item))
        except ConvLensError as error:
            self._failed[number] = error
            data = self._settings.wire(self.stream.encode(number, None))
        self._sent += 1
        return data

    def end(self, error: BaseException | None = None) -> None:
        """The source has ended, with an error of its own or without."""
        self._source_ended = True
        self._source_error = error

    def result(self, data: bytes) -> T:
        """What the next answer means; raises its error where the caller wants errors raised."""
        number, outcome = self.stream.decode(data, self.call.request_id)
        if number != self._received:
            raise Internal(f"The server answered item {number} where {self._received} was next.")
        self._received += 1
        result = self._failed.pop(number, outcome)
        if isinstance(result, ConvLensError):
            result.index = number
            if self.stream.on_error == "raise":
                raise result
        return cast(T, result)

    def finish(self) -> None:
        """The answers are over: raises what kept the stream from its end."""
        if self._source_error is not None:
            raise self._source_error
        if not self._source_ended or self._received < self._sent:
            raise Internal(f"The server ended the stream after {self._received} answers.")


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
            raise Internal(f"The stream ended early; messages received: {self._received}.")
