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
    """A job: its cost in passes and its bytes; `is_done` once it was answered in full.

    One that `is_partial` is answered with what there is when its time ends.
    """

    cost: int
    size: int
    is_partial: bool = False
    is_done: bool = False
    #: When it came, the jobs that were under way then with it, the passes before it, and the share
    #: of a job until then.
    came: float = 0.0
    beside: int = 0
    ahead: int = 0
    share_before: float = 0.0


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
        # What a job that shares the pool had of it until now, in seconds of the whole pool.
        self._share = 0.0
        self._changed = clock()
        # Passes and seconds of what has ended, each weighted by the jobs beside it.
        self._passes = 0.0
        self._seconds = 0.0
        # The most jobs that were lately beside one that has ended.
        self._most = 0.0
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
        work.came, work.ahead, work.share_before = self._changed, self.cost, self._share
        self._works.add(work)
        work.beside = len(self._works)
        self.cost += work.cost

    def leave(self, work: Work) -> None:
        """A job has ended, and tells of the rate.

        One that was given up tells it only where it took longer than the rate says: else, where all
        are late, nobody would learn it.
        """
        self._note()
        self._learn(work)
        self._works.remove(work)
        self.cost -= work.cost

    def wait(self, cost: int) -> float:
        """Seconds by which the jobs under way would delay one of this cost; 0 if nobody knows.

        Under more load than was seen lately the rate may be higher, by larger batches.
        """
        if len(self._works) > KNOWN * self._most:
            return 0.0
        ahead = self.cost
        if self.is_shared:
            # Side by side, nobody takes more from a job than that one takes itself.
            ahead = sum(min(work.cost, cost) for work in self._works)
        return self.seconds(ahead)

    def seconds(self, cost: int) -> float:
        """Seconds that so many passes take; 0 until a job has ended."""
        return cost / self.rate if self.rate else 0.0

    def _note(self) -> None:
        now = self._clock()
        if self._works:
            self._share += (now - self._changed) / len(self._works)
        self._changed = now

    def _learn(self, work: Work) -> None:
        """What was ahead of it and itself took the seconds that it was there; side by side, itself
        took its share of them.

        Seconds under load say more than idle ones, in which a pass takes long for want of company:
        also where the company came while it was computed.
        """
        seconds = self._share - work.share_before if self.is_shared else self._changed - work.came
        if seconds <= 0:
            return
        passes = work.cost if self.is_shared else work.ahead + work.cost
        if not work.is_done and (self.rate is None or passes >= self.rate * seconds):
            return
        fades = math.exp((self._ended - self._changed) / MEMORY_SECONDS)
        # A queue of which many were given up says as little as one that has just filled.
        company = len(self._works) if self.is_shared else min(work.beside, len(self._works))
        self._passes = self._passes * fades + passes * company
        self._seconds = self._seconds * fades + seconds * company
        self._most = max(self._most * fades, company)
        self._ended = self._changed
