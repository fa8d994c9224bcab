"""How a worker is, told to whoever it answers."""

import time

from convlens.internal.v1.job_pb2 import Vitals
from convlens.workers.clock import Clocks
from convlens.workers.intake import Intake
from convlens.workers.usage import device_bytes, process_bytes

# Looking takes longer than a small reply should.
PAUSE_SECONDS = 0.25


class Told:
    """What a worker told of itself, and when it is time to tell it again; any thread may ask."""

    def __init__(self, intake: Intake, clocks: Clocks) -> None:
        self._intake = intake
        self._clocks = clocks
        self._next: dict[str, float] = {}

    def news(self, clock: str) -> Vitals | None:
        """How it is, for the server of this clock; None where that was told a moment ago."""
        now = time.monotonic()
        if now < self._next.get(clock, 0.0):
            return None
        self._next = {each: due for each, due in self._next.items() if due > now}
        self._next[clock] = now + PAUSE_SECONDS
        return Vitals(
            queued=len(self._intake),
            oldest_us=round(self._intake.oldest_seconds * 1e6),
            process_bytes=process_bytes(),
            device_bytes=device_bytes(),
            clock_offset_us=self._clocks.offset_us(clock),
        )
