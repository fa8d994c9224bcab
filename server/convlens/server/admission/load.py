"""How loaded a pool is: what is under way, how fast it drains, and when new work would be done."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

# Seconds after which what was seen of the drain rate counts for a third.
MEMORY_SECONDS = 30.0
# What was seen of the rate tells of up to so many times as many jobs.
KNOWN = 2.0


@dataclass(eq=False, slots=True)
class Work:
    """A job: its cost in passes and its bytes; `is_done` once it was answered in full."""

    cost: int
    size: int
    is_done: bool = False
    #: When it came, and the load until then.
    came: float = 0.0
    load_before: float = 0.0


class Load:
    """The jobs of one pool of one network, from the moment they are let in until they end.

    With `is_shared` all jobs go on side by side, as on the runner; else they queue. Times are in
    seconds of `clock`, costs in passes.
    """

    def __init__(
        self, name: str, is_shared: bool, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.name = name
        self.is_shared = is_shared
        self._clock = clock
        self._works: set[Work] = set()
        self.cost = 0
        # The number of jobs under way, integrated over time.
        self._job_seconds = 0.0
        self._changed = clock()
        # Passes, seconds and company of what has ended, each weighted by the load that it saw.
        self._passes = 0.0
        self._seconds = 0.0
        self._company = 0.0
        self._ended = self._changed

    def __len__(self) -> int:
        return len(self._works)

    @property
    def rate(self) -> float | None:
        """Passes per second while there is enough to do; None until a job has ended."""
        return self._passes / self._seconds if self._seconds else None

    def enter(self, work: Work) -> None:
        """A job begins to wait."""
        self._note()
        work.came, work.load_before = self._changed, self._job_seconds
        self._works.add(work)
        self.cost += work.cost

    def leave(self, work: Work) -> None:
        """A job has ended; one that failed or was cancelled tells nothing of the rate."""
        self._note()
        self._works.remove(work)
        self.cost -= work.cost
        if work.is_done:
            self._learn(work)

    def wait(self, cost: int) -> float:
        """Seconds by which the jobs under way would delay one of this cost; 0 if nobody knows.

        Under more load than was seen lately the rate may be higher, by larger batches.
        """
        if not self._is_known():
            return 0.0
        ahead = self.cost
        if self.is_shared:
            # Side by side, nobody takes more from a job than that one takes itself.
            ahead = sum(min(work.cost, cost) for work in self._works)
        return self.seconds(ahead)

    def seconds(self, cost: int) -> float:
        """Seconds that so many passes take; 0 until a job has ended."""
        return cost / self.rate if self.rate else 0.0

    def _is_known(self) -> bool:
        return len(self._works) * self._seconds <= KNOWN * self._company

    def _note(self) -> None:
        now = self._clock()
        self._job_seconds += len(self._works) * (now - self._changed)
        self._changed = now

    def _learn(self, work: Work) -> None:
        """By Little's law: while a job was there for t seconds among n others, each got 1/n.

        Seconds under load say more than idle ones, in which a pass takes long for want of company.
        """
        seconds = self._changed - work.came
        if seconds <= 0:
            return
        company = (self._job_seconds - work.load_before) / seconds
        fades = math.exp((self._ended - self._changed) / MEMORY_SECONDS)
        self._passes = self._passes * fades + work.cost * company * company
        self._seconds = self._seconds * fades + seconds * company
        self._company = self._company * fades + seconds * company * company
        self._ended = self._changed
