"""Versions of what is told while it improves."""

from collections.abc import Callable, Hashable
from itertools import count
from threading import Lock


class Previews:
    """Tells of versions in their order, and of none after the last one.

    They are written by several threads, and a newer one may be ready first.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._numbers = count()
        self._newest: dict[Hashable, int | None] = {}

    def number(self) -> int:
        """The next version's."""
        return next(self._numbers)

    def tell(self, key: Hashable, version: int, tell: Callable[[], None]) -> None:
        """Tells of a version, unless a newer one or the last one was told of before."""
        with self._lock:
            newest = self._newest.get(key, -1)
            if newest is not None and version > newest:
                self._newest[key] = version
                tell()

    def tell_last(self, key: Hashable, tell: Callable[[], None]) -> None:
        """Tells of the last version."""
        with self._lock:
            self._newest[key] = None
            tell()
