"""The courses of a sweep: windows in groups whose patches have one size."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import ceil
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from convlens.workers.anatomy.costs import multiply_adds
from convlens.workers.anatomy.fields import Map
from convlens.workers.body import Body
from convlens.workers.incremental.bands import Band
from convlens.workers.incremental.course import Course, course_of
from convlens.workers.incremental.covering import Covering, Shelf

# How many windows at each border are tried as a group of their own.
EDGES = (1, 2, 4, 7, 12, 20)
# What a micro-batch costs beside its rows, in multiply-adds: weights are read and brought in order,
# and every call is made once. Measured on two cores.
PER_WEIGHT, PER_CALL = 24, 15_000_000
# About as many as a micro-batch has.
ROWS = 32

# Numbers of windows along one axis.
Numbers: TypeAlias = tuple[int, ...]
Spans: TypeAlias = Sequence[range]


@dataclass(frozen=True)
class Lot:
    """Windows that are asked for together: each of some rows with each of some columns."""

    rows: Numbers
    columns: Numbers


@dataclass(frozen=True, slots=True)
class Group:
    """Windows of a lot that have one course."""

    lot: Lot
    course: Course

    def __len__(self) -> int:
        return len(self.lot.rows) * len(self.lot.columns)


@dataclass(frozen=True)
class Plan:
    """How the windows of a sweep go through a network: groups for each lot.

    `share` are the multiply-adds that are left of those of whole passes; `threshold` is that of the
    courses.
    """

    lots: Sequence[Sequence[Group]]
    share: float
    threshold: float
    body: Body
    shelf: Shelf

    def covering(self, x: Tensor, fill: Tensor) -> Covering:
        """A picture [channels, height, width], and what covers it, alike."""
        return Covering(self.body, self.courses, x, fill, self.shelf)

    def group(self, lot: int, row: int, column: int) -> int:
        """The position of a window's group in its lot."""
        groups = (group.lot for group in self.lots[lot])
        return next(
            n for n, each in enumerate(groups) if row in each.rows and column in each.columns
        )

    @property
    def courses(self) -> tuple[Course, ...]:
        """That of each group, once where two lots are the same."""
        return tuple(dict.fromkeys(each.course for groups in self.lots for each in groups))


@dataclass(frozen=True)
class Planner:
    """Plans sweeps over one network; `places` are the maps of its trace.

    Calls of `capture` are read in every pass; `threshold` is that of `course_of`. What is ready of
    pictures is kept on the `shelf`.
    """

    body: Body
    places: Sequence[Map | None]
    shelf: Shelf
    capture: Sequence[int] = ()
    threshold: float = 1.0

    def plan(self, rows: Spans, columns: Spans, lots: Sequence[Lot]) -> Plan:
        """For windows over these pixels, vertically and horizontally, in lots.

        Each lot has the windows of the one before, which are not asked for again.
        """
        groups: list[list[Group]] = []
        for lot, before in zip(lots, (None, *lots), strict=False):
            # Windows that do not overlap are all in the first lot.
            done = groups[-1] if lot == before else self._groups(rows, columns, lot, before)
            groups.append(done)
        last = groups[-1]
        left = sum(len(group) * group.course.multiply_adds for group in last)
        whole = self._whole * sum(map(len, last))
        return Plan(groups, left / whole if whole else 1.0, self.threshold, self.body, self.shelf)

    @property
    def _whole(self) -> float:
        return sum(map(multiply_adds, self.body.trace.calls))

    def _groups(self, rows: Spans, columns: Spans, lot: Lot, before: Lot | None) -> list[Group]:
        down = [_Cut.of(self, rows, columns, lot, numbers, 0) for numbers in _cuts(lot.rows)]
        across = [_Cut.of(self, rows, columns, lot, numbers, 1) for numbers in _cuts(lot.columns)]
        calls = self.body.trace.calls
        costs = np.array([multiply_adds(call) for call in calls], dtype=float)
        weights = sum(weight.numel() for weight in self.body.module.parameters())
        batch = PER_WEIGHT * weights + PER_CALL * len(calls)
        best = min(product(down, across), key=lambda pair: _cost(*pair, costs, batch, before))
        return [
            Group(Lot(r, c), self._course([rows[n] for n in r], [columns[n] for n in c]))
            for r, c in product(best[0].groups, best[1].groups)
        ]

    def _course(self, rows: Spans, columns: Spans) -> Course:
        _, height, width = self.body.trace.image
        start = Band.of(rows, height), Band.of(columns, width)
        return course_of(self.body.trace, self.places, start, self.capture, self.threshold)

    def shares(self, rows: Spans, columns: Spans, axis: int) -> NDArray[np.float64]:
        """How much of each call's output is computed along one axis."""
        steps = self._course(rows, columns).steps
        patches = (step.patch[axis] if step.patch else None for step in steps)
        return np.array([band.length / band.size if band else 1.0 for band in patches])


@dataclass(frozen=True)
class _Cut:
    """Groups along one axis, and for each how much of each call's output is computed along it."""

    groups: Sequence[Numbers]
    shares: NDArray[np.float64]

    @staticmethod
    def of(
        planner: Planner,
        rows: Spans,
        columns: Spans,
        lot: Lot,
        groups: Sequence[Numbers],
        axis: int,
    ) -> "_Cut":
        """For windows in the middle of the other axis."""
        own, other = (rows, columns) if axis == 0 else (columns, rows)
        beside = lot.columns if axis == 0 else lot.rows
        middle = [other[beside[len(beside) // 2]]]
        shares: list[NDArray[np.float64]] = []
        for group in groups:
            spans = [own[n] for n in group]
            shares.append(
                planner.shares(spans, middle, 0) if axis == 0 else planner.shares(middle, spans, 1)
            )
        return _Cut(groups, np.stack(shares))


def _cuts(numbers: Numbers) -> Iterator[list[Numbers]]:
    """One group, or windows near a border apart, which change less of a map than others.

    Both borders are one group, which makes larger micro-batches, or each is one, where what their
    windows change has other sizes.
    """
    yield [numbers]
    for edge in EDGES:
        first, middle, last = numbers[:edge], numbers[edge:-edge], numbers[-edge:]
        if middle:
            yield [first + last, middle]
            yield [first, middle, last]


def _cost(
    down: _Cut, across: _Cut, costs: NDArray[np.float64], batch: float, before: Lot | None
) -> float:
    """Multiply-adds of all groups, and what their micro-batches cost beside that."""
    each = down.shares * costs @ across.shares.T
    counts = np.outer(*(np.array([len(g) for g in cut.groups]) for cut in (down, across)))
    if before:
        counts -= np.outer(
            [len({*group} & {*before.rows}) for group in down.groups],
            [len({*group} & {*before.columns}) for group in across.groups],
        )
    batches = sum(ceil(count / ROWS) for count in counts.flatten())
    return float((each * counts).sum() + batch * batches)
