"""The calls of a client that are under way."""

import threading
from collections.abc import Callable, Generator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

import grpc.aio

from convlens.client._errors import Cancelled, ConvLensError


def closed_error() -> Cancelled:
    """What a call ends with when its client is closed."""
    return Cancelled("The client is closed; make a new one.", reason="CANCELLED")


class OpenCalls:
    """Knows how to end each call that is open, so that closing the client ends them all."""

    def __init__(self) -> None:
        self.closed = False
        self._lock = threading.Lock()
        self._ends: dict[object, tuple[Callable[[], object], ...]] = {}

    @contextmanager
    def kept(self, *ends: Callable[[], object]) -> Generator[None, None, None]:
        """Has `ends` called when the client is closed during the block."""
        key = object()
        with self._lock:
            self._ends[key] = ends
        try:
            self.check()
            yield
        finally:
            with self._lock:
                self._ends.pop(key, None)

    @contextmanager
    def open(self) -> Generator[None, None, None]:
        """Says it in our words where gRPC finds its channel closed."""
        self.check()
        try:
            yield
        except (ValueError, grpc.aio.UsageError) as error:
            if self.closed and not isinstance(error, ConvLensError):
                raise closed_error() from error
            raise

    def check(self) -> None:
        """Raises Cancelled where the client is closed."""
        if self.closed:
            raise closed_error()

    def close(self) -> None:
        """Ends every call that is open, and lets none begin."""
        with self._lock:
            self.closed = True
            ends = [end for several in self._ends.values() for end in several]
        for end in ends:
            end()


class Cancellable(Protocol):
    """A call under way."""

    def cancel(self) -> object:
        """Ends it."""
        ...


C = TypeVar("C", bound=Cancellable)


def begun(begin: Callable[[], C]) -> C:
    """A stream that is begun in a thread of its own, which no Ctrl-C can interrupt.

    Amid gRPC's own steps an interrupt leaves a call that nobody hears of, and closing its channel
    waits for it for ever (seen with 1.81).
    """
    call: Future[C] = Future()

    def work() -> None:
        try:
            call.set_result(begin())
        except BaseException as error:
            call.set_exception(error)

    try:
        threading.Thread(target=work, name="convlens-begin", daemon=True).start()
        return call.result()
    except KeyboardInterrupt:
        call.add_done_callback(_cancel)
        raise


def _cancel(call: "Future[Any]") -> None:
    if not call.exception():
        call.result().cancel()
