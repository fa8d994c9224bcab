"""What happened to requests that have a stage, a call and a tenant in common."""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convlens.loadtest.results.histogram import Histogram

# Into how many parts a stage is cut at most, to count the answers that came in a window of it.
PARTS = 20_000
NARROWEST = 0.005


@dataclass(slots=True)
class Cell:
    """Counts and times; `width` is that of the parts of its stage, in seconds."""

    width: float
    #: Those that were sent and came to their end, those not sent at all, and those answered.
    ended: int = 0
    unsent: int = 0
    answered: int = 0
    #: Answers within their deadline, of which no part failed.
    good: int = 0
    #: Answers of which a part failed.
    incomplete: int = 0
    attempts: int = 0
    reasons: Counter[str] = field(default_factory=Counter[str])
    broken: Counter[str] = field(default_factory=Counter[str])
    latency: Histogram | None = None
    failed: Histogram | None = None
    first: Histogram | None = None
    #: Answers and good ones by when they came, in parts from the beginning of the stage.
    answers_at: NDArray[Any] = field(default_factory=lambda: np.zeros(0, np.int64))
    good_at: NDArray[Any] = field(default_factory=lambda: np.zeros(0, np.int64))

    @classmethod
    def of_stage(cls, seconds: float) -> "Cell":
        """An empty one of a stage that is so long."""
        return cls(max(NARROWEST, seconds / PARTS))

    def add(self, rows: NDArray[Any], names: list[str], deadline: float, begin: float) -> None:
        """Counts records, whose reasons have these names; the stage began at `begin`."""
        answered = rows["reason"] == 0
        good = answered & (rows["broken"] == 0) & (rows["latency"] <= deadline)
        self.ended += len(rows)
        self.answered += int(answered.sum())
        self.good += int(good.sum())
        self.incomplete += int((answered & (rows["broken"] > 0)).sum())
        self.attempts += int(rows["attempts"].sum())
        for number, count in zip(
            *np.unique(rows["reason"][~answered], return_counts=True), strict=True
        ):
            self.reasons[names[number - 1]] += int(count)
        self.latency = _recorded(self.latency, rows["latency"][answered])
        self.failed = _recorded(self.failed, rows["latency"][~answered])
        first = rows["first"][answered]
        self.first = _recorded(self.first, first[~np.isnan(first)])
        came = rows["due"] + rows["latency"] - begin
        self.answers_at = _counted(self.answers_at, came[answered] / self.width)
        self.good_at = _counted(self.good_at, came[good] / self.width)

    def in_window(self, begin: float, seconds: float) -> tuple[int, int]:
        """Answers that came in a window of the stage, and the good ones of them."""
        first, last = (round(at / self.width) for at in (begin, begin + seconds))
        return int(self.answers_at[first:last].sum()), int(self.good_at[first:last].sum())

    @property
    def due(self) -> int:
        """All that were due."""
        return self.ended + self.unsent

    @property
    def median(self) -> float:
        """The median latency of answers in seconds; 0 where there are none."""
        [found] = self.latency.percentiles([50]) if self.latency else [0.0]
        return 0.0 if math.isnan(found) else found


def together(cells: Iterable[Cell]) -> Cell:
    """All of one stage in one."""
    all_cells = list(cells)
    total = Cell(all_cells[0].width if all_cells else NARROWEST)
    for cell in all_cells:
        for name in ("ended", "unsent", "answered", "good", "incomplete", "attempts"):
            setattr(total, name, getattr(total, name) + getattr(cell, name))
        total.reasons += cell.reasons
        total.broken += cell.broken
        for name in ("latency", "failed", "first"):
            _merge(total, name, getattr(cell, name))
        total.answers_at = _sum(total.answers_at, cell.answers_at)
        total.good_at = _sum(total.good_at, cell.good_at)
    return total


def _merge(total: Cell, name: str, other: Histogram | None) -> None:
    if other is not None:
        own = getattr(total, name) or Histogram()
        own.add(other)
        setattr(total, name, own)


def _recorded(histogram: Histogram | None, seconds: NDArray[Any]) -> Histogram | None:
    if not seconds.size:
        return histogram
    histogram = histogram or Histogram()
    histogram.record(seconds.astype(np.float64))
    return histogram


def _counted(counts: NDArray[Any], at: NDArray[Any]) -> NDArray[Any]:
    if not at.size:
        return counts
    return _sum(counts, np.bincount(np.maximum(at, 0).astype(np.int64)))


def _sum(one: NDArray[Any], other: NDArray[Any]) -> NDArray[Any]:
    longer, shorter = (one, other) if len(one) >= len(other) else (other, one)
    total = longer.copy()
    total[: len(shorter)] += shorter
    return total
