"""Deadlines across machines whose clocks differ."""

import time

from convlens.internal.v1.job_pb2 import Job

WINDOW_SECONDS = 300.0


class SkewedClock:
    """Turns a job's remaining time into a deadline on this machine's `time.monotonic`.

    What a job has waited is the difference of the two clocks, less the smallest such difference
    seen lately: a constant skew falls out, and what is left is the time on the way and in queues.
    The smallest difference is kept for two windows, so that clocks may drift.
    """

    def __init__(self) -> None:
        self._window_ends = time.monotonic() + WINDOW_SECONDS
        self._before: int | None = None
        self._smallest: int | None = None

    @property
    def skew_us(self) -> int:
        """The smallest difference seen lately, in microseconds."""
        known = [value for value in (self._before, self._smallest) if value is not None]
        return min(known, default=0)

    def times(self, job: Job) -> tuple[float, float]:
        """When the job was sent and when its caller's time is over, on `time.monotonic`."""
        now, unix_us = time.monotonic(), time.time_ns() // 1000
        if now > self._window_ends:
            self._before, self._smallest = self._smallest, None
            self._window_ends = now + WINDOW_SECONDS
        difference = unix_us - job.sent_unix_us
        smallest = difference if self._smallest is None else min(self._smallest, difference)
        self._smallest = smallest
        waited_us = difference - self.skew_us
        return now - waited_us / 1e6, now + (job.remaining_us - waited_us) / 1e6
