"""Files that are read again when they change, while the server runs."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeAlias, TypeVar

import structlog

log = structlog.get_logger(__name__)

T = TypeVar("T")
State: TypeAlias = tuple[tuple[int, ...] | None, ...]


class Unusable(Exception):
    """A file cannot be used; the message has one line for each mistake."""


class Followed(Generic[T]):
    """What `read` makes of files; what was read last without a mistake stays in force.

    `name` is the setting that names them. Raises Unusable where they have a mistake at the start.
    """

    def __init__(self, name: str, paths: Sequence[Path], read: Callable[[], T]) -> None:
        self.name = name
        # Whether the files have a mistake now, and older ones are in force.
        self.is_stale = False
        self._paths = paths
        self._read = read
        self._seen = self._state()
        self.value = read()

    def look(self) -> bool:
        """Reads the files again where they changed; whether `value` is another one now."""
        state = self._state()
        if state == self._seen and not self.is_stale:
            return False
        is_news, self._seen = state != self._seen, state
        try:
            value = self._read()
        except Exception as error:
            # Whatever is wrong with a file: nobody would follow it any more. It is tried again even
            # where it stays as it is, since reading may fail for a moment.
            self.is_stale = True
            why = str(error) if isinstance(error, Unusable) else type(error).__name__
            if is_news:
                log.error("not reloaded, the old one stays in force", setting=self.name, why=why)
            return False
        self.is_stale = False
        self.value = value
        log.info("reloaded", setting=self.name)
        return True

    def _state(self) -> State:
        return tuple(_state(path) for path in self._paths)


def _state(path: Path) -> tuple[int, ...] | None:
    """What changes with the file; of a link, as Kubernetes swaps them, what it leads to."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
