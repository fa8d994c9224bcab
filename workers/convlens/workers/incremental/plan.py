"""The courses of a sweep: windows in groups whose patches have one size."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor

from convlens.workers.anatomy.costs import multiply_adds
from convlens.workers.anatomy.fields import Map
from convlens.workers.body import Body
from convlens.workers.incremental.bands import Band
from convlens.workers.incremental.course import Course, course_of
from convlens.workers.incremental.covering import Covering, Shelf

# How many windows at each border are tried as a group of their own.
EDGES = (1, 2, 3, 4, 5, 6, 8, 10, 13, 16, 20, 25, 32)


@dataclass(frozen=True, slots=True)
class Group:
    """Windows of successive `rows` and `columns`, by number, and the course that they have."""

    rows: range
    columns: range
    course: Course

    def __len__(self) -> int:
        return len(self.rows) * len(self.columns)


@dataclass(frozen=True)
class Plan:
    """How the windows of a sweep go through a network, in groups.

    `share` are the multiply-adds that are left of those of whole passes; `threshold` is that of the
    courses.
    """

    groups: Sequence[Group]
    share: float
    threshold: float
    body: Body
    shelf: Shelf

    def covering(self, x: Tensor, fill: Tensor) -> Covering:
        """A picture [channels, height, width], and what covers it, alike."""
        return Covering(self.body, tuple(self.courses), x, fill, self.shelf)

    def group(self, row: int, column: int) -> int:
        """The position of a window's group."""
        return next(
            n for n, each in enumerate(self.groups) if row in each.rows and column in each.columns
        )

    @property
    def courses(self) -> Iterator[Course]:
        """That of each group."""
        return (group.course for group in self.groups)

    @property
    def obstacle(self) -> str:
        """Why whole passes are made for some of the windows; empty where there are none."""
        return next((course.obstacle for course in self.courses if course.obstacle), "")


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

    def plan(self, rows: Sequence[range], columns: Sequence[range]) -> Plan:
        """For windows over these pixels, vertically and horizontally."""
        middle = [rows[len(rows) // 2]], [columns[len(columns) // 2]]
        # Groups along one axis are chosen for windows in the middle of the other.
        down = _groups(rows, lambda spans: self._cost(spans, middle[1]))
        across = _groups(columns, lambda spans: self._cost(middle[0], spans))
        groups = [
            Group(r, c, self._course(rows[r.start : r.stop], columns[c.start : c.stop]))
            for r in down
            for c in across
        ]
        left = sum(len(group) * group.course.multiply_adds for group in groups)
        whole = sum(map(multiply_adds, self.body.trace.calls)) * len(rows) * len(columns)
        share = left / whole if whole else 1.0
        return Plan(groups, share, self.threshold, self.body, self.shelf)

    def _cost(self, rows: Sequence[range], columns: Sequence[range]) -> float:
        return len(rows) * len(columns) * self._course(rows, columns).multiply_adds

    def _course(self, rows: Sequence[range], columns: Sequence[range]) -> Course:
        _, height, width = self.body.trace.image
        start = Band.of(rows, height), Band.of(columns, width)
        return course_of(self.body.trace, self.places, start, self.capture, self.threshold)


def _groups(spans: Sequence[range], cost: Callable[[Sequence[range]], float]) -> list[range]:
    """One group, or three: windows near a border change less of a map than those in the middle."""
    count = len(spans)
    tried = [[0, count], *([0, n, count - n, count] for n in EDGES if 2 * n < count)]
    best = min(tried, key=lambda cuts: sum(cost(spans[a:b]) for a, b in pairwise(cuts)))
    return [range(a, b) for a, b in pairwise(best)]
