"""Keeps what happened until it is told."""

import asyncio
import time
from collections import Counter

import numpy as np

from convlens.client import ConvLensError
from convlens.loadtest.generator.orders import PART, RECORD, Due, Report, Row, Vitals

# Seconds between two looks at how late the loop is.
TICK = 0.05
# What there is to say of a reason that gRPC found no words for.
LONGEST_SENTENCE = 300


class Recorder:
    """Records of one process; `report` hands over those since the last one."""

    def __init__(self, process: int) -> None:
        self.in_flight = 0
        self.ended: list[int] = []
        self._process = process
        self._rows: list[Row] = []
        self._reasons: dict[str, int] = {}
        self._sentences: dict[str, str] = {}
        self._broken: Counter[tuple[int, int, int, str]] = Counter()
        self._unsent: Counter[tuple[int, int, int, int]] = Counter()
        self._lag = 0.0
        self._clock, self._busy = time.monotonic(), time.thread_time()
        self._cpu = time.process_time()

    def add(self, row: Row) -> None:
        """A request that came to its end."""
        self._rows.append(row)

    def add_broken(self, due: Due, reason: str) -> None:
        """A part of an answer that is none."""
        self._broken[due.stage.number, due.call, due.caller, reason] += 1

    def add_unsent(self, due: Due) -> None:
        """A request that was due, and is not sent at all."""
        part = int((due.at - due.stage.epoch) / PART)
        self._unsent[due.stage.number, due.call, due.caller, part] += 1

    def reason(self, error: ConvLensError) -> int:
        """The number of an error's reason."""
        name = error.reason or error.code.name
        if name not in self._reasons:
            self._reasons[name] = len(self._reasons) + 1
            self._sentences[name] = error.message[:LONGEST_SENTENCE]
        return self._reasons[name]

    def report(self) -> Report:
        """What happened since the last report."""
        rows, self._rows = self._rows, []
        broken, self._broken = self._broken, Counter()
        unsent, self._unsent = self._unsent, Counter()
        ended, self.ended = self.ended, []
        return Report(
            self._process,
            np.array(rows, RECORD).tobytes(),
            list(self._reasons),
            dict(self._sentences),
            broken,
            unsent,
            self._vitals(),
            ended,
        )

    async def watch_loop(self) -> None:
        """Notes how late the loop is, for ever."""
        while True:
            before = time.monotonic()
            await asyncio.sleep(TICK)
            self._lag = max(self._lag, time.monotonic() - before - TICK)

    def _vitals(self) -> Vitals:
        clock, busy, cpu = time.monotonic(), time.thread_time(), time.process_time()
        share = (busy - self._busy) / max(1e-9, clock - self._clock)
        vitals = Vitals(self.in_flight, self._lag, share, cpu - self._cpu)
        self._clock, self._busy, self._cpu, self._lag = clock, busy, cpu, 0.0
        return vitals
