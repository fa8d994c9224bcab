"""Goes through a stream of answers to its end, however often the server is full or away."""

import time
from collections.abc import Callable, Generator
from contextlib import closing
from typing import TypeVar

from convlens.client._errors import ConvLensError, Overloaded, Unavailable
from convlens.client._outcomes import end_if_of_all

# Seconds that a server may be full or away without any answer; the pause before it is asked again
# doubles from the first to the longest.
PATIENCE, PAUSE, LONGEST_PAUSE = 120.0, 0.5, 8.0

T = TypeVar("T")


def patiently(
    begin: Callable[[int], Generator[T | ConvLensError, None, None]],
    count: int,
    note: Callable[[str], object],
) -> Generator[T | ConvLensError, None, None]:
    """The `count` answers of a stream, in order; `begin` opens it at an answer, counted from 0.

    Where the server is full or away, waits and opens it again; `note` is told once. Raises what
    every answer would have, and what the server said last where it said it for too long.
    """
    position, patience = 0, _Patience(note)
    while position < count:
        try:
            with closing(begin(position)) as results:
                for result in results:
                    if isinstance(result, Overloaded | Unavailable):
                        raise result
                    end_if_of_all(result)
                    patience.renew()
                    yield result
                    position += 1
        except (Overloaded, Unavailable) as error:
            error.index = None
            patience.wait(error)


class _Patience:
    """Waits for a server that is full or away, and gives up when it was so for too long."""

    def __init__(self, note: Callable[[str], object]) -> None:
        self._note = note
        self._said = False
        self.renew()

    def renew(self) -> None:
        """The server has answered."""
        self._end: float | None = None
        self._pause = PAUSE

    def wait(self, error: Overloaded | Unavailable) -> None:
        """Waits a while, or raises the error where that was done for too long."""
        now = time.monotonic()
        self._end = now + PATIENCE if self._end is None else self._end
        if now >= self._end:
            raise error
        if not self._said:
            self._said = True
            self._note(f"waiting for the server: {error.message}")
        time.sleep(min(self._end - now, max(self._pause, error.retry_after or 0)))
        self._pause = min(2 * self._pause, LONGEST_PAUSE)
