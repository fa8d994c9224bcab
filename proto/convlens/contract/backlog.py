"""What waits for somebody slow, bounded where what comes later replaces what came before."""

from collections import OrderedDict, defaultdict, deque
from itertools import count
from typing import Generic, TypeVar

T = TypeVar("T")


class Backlog(Generic[T]):
    """A queue that forgets what is replaced once it holds more than `most` bytes.

    Things of one topic replace each other, and of each topic the newest one is kept. Those without
    a topic are kept, and do not count as bytes. Only one thread at a time may call.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._numbers = count()
        self._waiting: OrderedDict[int, tuple[T, int, str]] = OrderedDict()
        # The numbers of what waits of each topic.
        self._versions = defaultdict[str, deque[int]](deque)
        self._bytes = 0

    def put(self, thing: T, size: int = 0, topic: str = "") -> None:
        """Adds a thing of `size` bytes at the end."""
        number = next(self._numbers)
        self._waiting[number] = thing, size, topic
        if topic:
            versions = self._versions[topic]
            versions.append(number)
            self._bytes += size
            while self._bytes > self._most and len(versions) > 1:
                _, replaced, _ = self._waiting.pop(versions.popleft())
                self._bytes -= replaced

    def take(self) -> T | None:
        """Removes what waits for the longest time and returns it; None where nothing waits."""
        if not self._waiting:
            return None
        _, (thing, size, topic) = self._waiting.popitem(last=False)
        if topic:
            self._versions[topic].popleft()
            self._bytes -= size
        return thing
