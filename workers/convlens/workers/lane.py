"""Work that is done beside the runner, one piece after the other."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from threading import Condition


class Lane:
    """Runs pieces of work in an executor in the order in which they came, never two at a time."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._waiting: deque[Callable[[], object]] = deque()
        self._is_busy = False
        self._changed = Condition()

    def submit(self, work: Callable[[], object]) -> None:
        """Takes a piece of work, which must not raise; any thread may call."""
        with self._changed:
            self._waiting.append(work)
            if self._is_busy:
                return
            self._is_busy = True
        self._executor.submit(self._run)

    def wait(self) -> None:
        """Blocks until all that was taken is done; not from within a piece of work.

        A thread of the executor may call: whatever it waits for has begun, or can begin.
        """
        with self._changed:
            self._changed.wait_for(lambda: not self._is_busy)

    def _run(self) -> None:
        while work := self._next():
            work()

    def _next(self) -> Callable[[], object] | None:
        with self._changed:
            if self._waiting:
                return self._waiting.popleft()
            self._is_busy = False
            self._changed.notify_all()
            return None
