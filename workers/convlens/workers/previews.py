"""Versions of what is told while it improves."""

from collections.abc import Callable, Hashable
from itertools import count
from threading import Lock


class Previews:
    """Tells of versions in their order, and of none after the last one.

    They are written by several threads, and a newer one may be ready first. Where writing takes
    longer than what is written of, versions that a newer one replaces need not be written.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._numbers = count()
        self._asked: dict[Hashable, int] = {}
        self._told: dict[Hashable, int | None] = {}

    def number(self, key: Hashable) -> int:
        """The next version's."""
        with self._lock:
            self._asked[key] = next(self._numbers)
            return self._asked[key]

    def is_newest(self, key: Hashable, version: int) -> bool:
        """Whether no newer version has come, nor the last one."""
        with self._lock:
            return self._asked[key] == version and self._told.get(key, -1) is not None

    def tell(self, key: Hashable, version: int, tell: Callable[[], None]) -> None:
        """Tells of a version, unless a newer one or the last one was told of before."""
        with self._lock:
            newest = self._told.get(key, -1)
            if newest is not None and version > newest:
                self._told[key] = version
                tell()

    def tell_last(self, key: Hashable, tell: Callable[[], None]) -> None:
        """Tells of the last version."""
        with self._lock:
            self._told[key] = None
            tell()
