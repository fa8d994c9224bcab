"""Work that is done beside the runner, one piece after the other."""

from collections.abc import Callable
from concurrent.futures import Executor
from threading import Condition

from convlens.contract.backlog import Backlog

# Of work that later work replaces, what may wait.
MOST_BYTES = 64 * 2**20


class Lane:
    """Runs pieces of work in an executor in the order in which they came, never two at a time."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._waiting: Backlog[Callable[[], object]] = Backlog(MOST_BYTES)
        self._is_busy = False
        self._changed = Condition()

    def submit(self, work: Callable[[], object], size: int = 0, topic: str = "") -> None:
        """Takes a piece of work, which must not raise; any thread may call.

        It holds `size` bytes. With a topic, it may not be done where too much waits and another of
        that topic came later.
        """
        with self._changed:
            self._waiting.put(work, size, topic)
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
            if work := self._waiting.take():
                return work
            self._is_busy = False
            self._changed.notify_all()
            return None
