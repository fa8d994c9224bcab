"""Puts the reports of all load processes together."""

import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convlens.loadtest.conducting.cells import Cell
from convlens.loadtest.generator.orders import NOT_SENT, PART, RECORD, Report, Stage, Vitals
from convlens.loadtest.results.histogram import Histogram

UNREACHABLE = "SERVER_UNREACHABLE"
# Two digits are enough for a curve.
CURVE_DIGITS = 2
# Seconds that live figures look back, and how fine a recovery is told.
LATELY, RECOVERY_PART = 3.0, PART
NICE = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
# Intervals of a curve at most.
MOST_INTERVALS = 120


@dataclass(slots=True)
class Interval:
    """A piece of the curves: what was due then, and what came of it."""

    due: int = 0
    good: int = 0
    #: Good answers that came then, whenever they were due.
    came: int = 0
    reasons: Counter[str] = field(default_factory=Counter[str])
    latency: Histogram = field(default_factory=lambda: Histogram(CURVE_DIGITS))


@dataclass(slots=True)
class StageTally:
    """What is known of a stage as a whole."""

    stage: Stage
    lateness: Histogram = field(default_factory=Histogram)
    #: Of the load processes while it lasted: how late their loops were, and how busy.
    lags: list[float] = field(default_factory=list[float])
    busy: list[float] = field(default_factory=list[float])
    #: By when requests were due, in parts of RECOVERY_PART seconds.
    due_at: Counter[int] = field(default_factory=Counter[int])
    good_at: Counter[int] = field(default_factory=Counter[int])
    ended: set[int] = field(default_factory=set[int])


class Tally:
    """All that was seen. `deadlines` are those of the calls, in order."""

    def __init__(self, deadlines: Sequence[float], longest: float) -> None:
        self.cells: dict[tuple[int, int, int], Cell] = {}
        self.stages: dict[int, StageTally] = {}
        self.intervals: dict[int, Interval] = {}
        self.interval = next((n for n in NICE if longest / n <= MOST_INTERVALS), NICE[-1])
        self.sentences: dict[str, str] = {}
        self.vitals: dict[int, Vitals] = {}
        #: Since when nobody has answered, or None.
        self.unreachable_since: float | None = None
        self.lately: deque[tuple[float, NDArray[Any]]] = deque()
        self._deadlines = np.array(deadlines)

    def begin(self, stage: Stage) -> None:
        """A stage of which there will be reports."""
        self.stages[stage.number] = StageTally(stage)

    def add(self, report: Report) -> None:
        """Counts what a report tells."""
        rows = np.frombuffer(report.records, RECORD)
        names = list(report.reasons)
        self.sentences = {**report.sentences, **self.sentences}
        self._add_rows(rows, names)
        self._add_broken(report)
        for (stage, call, tenant, part), count in report.unsent.items():
            self._add_unsent(self.stages[stage], self.cell(stage, call, tenant), part, count)
        self._add_vitals(report.process, report.vitals)
        for stage in report.ended:
            self.stages[stage].ended.add(report.process)
        if len(rows):
            self.lately.append((time.monotonic(), rows))
            self._follow_server(rows, names)
        while self.lately and self.lately[0][0] < time.monotonic() - LATELY:
            self.lately.popleft()

    def has_ended(self, stage: int, processes: int) -> bool:
        """Whether everything of a stage has come to its end in all processes."""
        return len(self.stages[stage].ended) == processes

    def cell(self, stage: int, call: int, tenant: int) -> Cell:
        """The cell of that place."""
        key = stage, call, tenant
        if key not in self.cells:
            self.cells[key] = Cell.of_stage(self.stages[stage].stage.seconds)
        return self.cells[key]

    def good(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Which records are good answers: whole, and within their deadline."""
        in_time = rows["latency"] <= self._deadlines[rows["call"]]
        return (rows["reason"] == 0) & (rows["broken"] == 0) & in_time

    def _add_rows(self, rows: NDArray[Any], names: list[str]) -> None:
        keys, places = np.unique(rows[["stage", "call", "tenant"]], return_inverse=True)
        for number, key in enumerate(keys):
            stage, call, tenant = (int(part) for part in key)
            own = rows[places == number]
            tally = self.stages[stage]
            begin = tally.stage.begin - tally.stage.epoch
            self.cell(stage, call, tenant).add(own, names, self._deadlines[call], begin)
            tally.lateness.record(np.maximum(own["lateness"], 0).astype(np.float64))
            _count(tally.due_at, (own["due"] - begin) / RECOVERY_PART)
            _count(tally.good_at, (own["due"] - begin)[self.good(own)] / RECOVERY_PART)
        self._add_to_curves(rows, names)

    def _add_to_curves(self, rows: NDArray[Any], names: list[str]) -> None:
        numbers = (rows["due"] / self.interval).astype(np.int64)
        good = self.good(rows)
        for number in np.unique(numbers):
            own, interval = rows[numbers == number], self._interval(int(number))
            interval.due += len(own)
            interval.good += int(good[numbers == number].sum())
            answered = own["reason"] == 0
            interval.latency.record(own["latency"][answered].astype(np.float64))
            for reason in own["reason"][~answered]:
                interval.reasons[names[reason - 1]] += 1
        came = ((rows["due"] + rows["latency"])[good] / self.interval).astype(np.int64)
        for number, count in zip(*np.unique(came, return_counts=True), strict=True):
            self._interval(int(number)).came += int(count)

    def _add_broken(self, report: Report) -> None:
        for (stage, call, tenant, reason), count in report.broken.items():
            self.cell(stage, call, tenant).broken[reason] += count

    def _add_unsent(self, tally: StageTally, cell: Cell, part: int, count: int) -> None:
        cell.unsent += count
        cell.reasons[NOT_SENT] += count
        begin = tally.stage.begin - tally.stage.epoch
        tally.due_at[max(0, int(part - begin / PART))] += count
        interval = self._interval(int(part * PART / self.interval))
        interval.due += count
        interval.reasons[NOT_SENT] += count

    def _add_vitals(self, process: int, vitals: Vitals) -> None:
        self.vitals[process] = vitals
        now = time.monotonic()
        for tally in self.stages.values():
            if tally.stage.begin <= now <= tally.stage.end:
                tally.lags.append(vitals.lag)
                tally.busy.append(vitals.busy)

    def _follow_server(self, rows: NDArray[Any], names: list[str]) -> None:
        known = names.index(UNREACHABLE) + 1 if UNREACHABLE in names else -1
        lost = rows["reason"] == known
        if not lost.all():
            self.unreachable_since = None
        elif self.unreachable_since is None:
            self.unreachable_since = time.monotonic()

    def _interval(self, number: int) -> Interval:
        return self.intervals.setdefault(number, Interval())


def _count(counter: Counter[int], at: NDArray[Any]) -> None:
    for place, count in zip(*np.unique(at.astype(np.int64), return_counts=True), strict=True):
        counter[int(place)] += int(count)
