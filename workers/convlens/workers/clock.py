"""Deadlines across machines: what a job has waited, found without a common clock."""

import time
from collections import OrderedDict
from dataclasses import dataclass

from convlens.internal.v1.job_pb2 import Job

WINDOW_SECONDS = 300.0
SERVERS = 256


@dataclass
class Difference:
    """The smallest difference of two clocks in this window and in the one before."""

    window_ends: float
    smallest: int
    before: int


class Clocks:
    """Turns a job's remaining time into a deadline on this machine's `time.monotonic`.

    Server and worker read monotonic clocks of their own, which never jump. What a job has waited is
    their difference, less the smallest difference to that server seen lately: what the clocks have
    to do with each other falls out, and what is left is the time on the way and in queues. Two
    windows are kept, so that clocks may drift.
    """

    def __init__(self) -> None:
        self._servers: OrderedDict[str, Difference] = OrderedDict()

    def times(self, job: Job) -> tuple[float, float]:
        """When the job was sent and when its caller's time is over, on `time.monotonic`."""
        now = time.monotonic()
        difference = round(now * 1e6) - job.sent_us
        sent = now - (difference - self._least(job.clock, now, difference)) / 1e6
        return sent, sent + job.remaining_us / 1e6

    def offset_us(self, clock: str) -> int:
        """Microseconds by which this clock is ahead of a server's, the fastest way included."""
        known = self._servers.get(clock)
        return min(known.smallest, known.before) if known else 0

    def _least(self, clock: str, now: float, difference: int) -> int:
        known = self._servers.setdefault(
            clock, Difference(now + WINDOW_SECONDS, difference, difference)
        )
        self._servers.move_to_end(clock)
        if len(self._servers) > SERVERS:
            self._servers.popitem(last=False)
        if now > known.window_ends:
            known.before, known.smallest = known.smallest, difference
            known.window_ends = now + WINDOW_SECONDS
        known.smallest = min(known.smallest, difference)
        return min(known.smallest, known.before)
