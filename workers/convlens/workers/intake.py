"""The way into a pool: what waits is bounded, and what waits together is worked on together."""

from collections import deque
from collections.abc import Sequence
from threading import Condition, Thread
from time import monotonic
from typing import Protocol

from convlens.contract import RETRY_SECONDS, ErrorReason, Failure
from convlens.workers import teams
from convlens.workers.config import PoolConfig
from convlens.workers.jobs import Ticket

# A full queue is looked through for jobs that nobody waits for, for this share of the time at most:
# Triton is asked about each of them, which takes longer than to turn a caller away.
SWEEP_SHARE = 0.05


class Worker(Protocol):
    """What an intake hands jobs to, always in the same thread."""

    def run(self, tickets: Sequence[Ticket]) -> None:
        """Takes jobs, answers each now or later, and returns when it can take more."""
        ...

    def is_idle(self) -> bool:
        """Whether every job that was taken is answered."""
        ...

    def close(self) -> None:
        """Ends after the jobs that were taken."""
        ...


class Intake:
    """A bounded queue, and one thread that hands whatever waits to the worker, as one batch.

    So the batch is as large as the load makes it: nobody waits for company, and while the worker
    is busy the next batch grows. `name` is the pool's, for those whom a full queue turns away.
    """

    def __init__(self, name: str, settings: PoolConfig, worker: Worker) -> None:
        self._name = name
        self._settings = settings
        self._worker = worker
        self._waiting: deque[Ticket] = deque()
        self._bytes = 0
        self._busy = False
        self._closed = False
        self._next_sweep = 0.0
        self._changed = Condition()
        self._thread = Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def oldest_seconds(self) -> float:
        """How long the first job has waited; 0 where none waits."""
        with self._changed:
            return monotonic() - self._waiting[0].arrived if self._waiting else 0.0

    def submit(self, ticket: Ticket) -> None:
        """Queues a job, or tells its caller that there is no place; any thread may call."""
        if self._take_in(ticket) or (self._sweep() and self._take_in(ticket)):
            return
        reason = ErrorReason.ERROR_REASON_QUEUE_FULL
        ticket.fail(Failure(reason, retry_after=RETRY_SECONDS, pool=self._name))

    def is_idle(self) -> bool:
        """Whether every job that was taken is answered."""
        with self._changed:
            return not (self._waiting or self._busy) and self._worker.is_idle()

    def close(self, seconds: float) -> None:
        """Lets the worker finish what waits, and ends it.

        After `seconds` those that still wait are turned away, and only what is begun is finished.
        """
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(seconds)
        if self._thread.is_alive():
            with self._changed:
                left = list(self._waiting)
                self._waiting.clear()
            for ticket in left:
                ticket.fail(self._ended())
            self._thread.join()
        self._worker.close()

    def _ended(self) -> Failure:
        return Failure(
            ErrorReason.ERROR_REASON_WORKER_UNAVAILABLE,
            retry_after=RETRY_SECONDS,
            network=self._name,
            detail="they are being unloaded",
        )

    def _take_in(self, ticket: Ticket) -> bool:
        with self._changed:
            if not self._has_room(ticket):
                return False
            self._waiting.append(ticket)
            self._bytes += _size(ticket)
            self._changed.notify()
            return True

    def _has_room(self, ticket: Ticket) -> bool:
        """Whether a job may wait; a large one may where no other takes up bytes."""
        bytes_fit = not self._bytes or self._bytes + _size(ticket) <= self._settings.queue_bytes
        return bytes_fit and len(self._waiting) < self._settings.queue_size and not self._closed

    def _sweep(self) -> bool:
        """Lets go of jobs that nobody waits for any more; whether there were any."""
        started = monotonic()
        with self._changed:
            if started < self._next_sweep:
                return False
            waiting = list(self._waiting)
        # Callers are asked and told outside the lock: the worker goes on meanwhile.
        over = {id(ticket) for ticket in waiting if not ticket.is_open("in the queue")}
        took = monotonic() - started
        with self._changed:
            self._next_sweep = started + took / SWEEP_SHARE
            self._bytes -= sum(_size(ticket) for ticket in self._waiting if id(ticket) in over)
            self._waiting = deque(each for each in self._waiting if id(each) not in over)
        return bool(over)

    def _work(self) -> None:
        while batch := self._take():
            self._worker.run(batch)
            with self._changed:
                self._bytes -= sum(_size(ticket) for ticket in batch)
                self._busy = False

    def _take(self) -> list[Ticket]:
        """Waits for jobs and takes what waits; nothing once the pool is closed and empty."""
        if not self._waiting:
            teams.let_go()
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            count = min(len(self._waiting), self._settings.max_batch)
            self._busy = count > 0
            return [self._waiting.popleft() for _ in range(count)]


def _size(ticket: Ticket) -> int:
    return len(ticket.job.request)
