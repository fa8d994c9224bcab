"""When requests are due."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np


@dataclass(frozen=True, slots=True)
class Course:
    """A rate that goes evenly from `start` to `end` requests a second, in so many seconds."""

    start: float
    end: float
    seconds: float

    @property
    def total(self) -> float:
        """How many requests are expected."""
        return (self.start + self.end) / 2 * self.seconds

    def when(self, count: float) -> float:
        """Seconds after which `count` requests are expected."""
        slope = (self.end - self.start) / self.seconds
        if abs(slope) * self.seconds < 1e-9 * self.start:
            return count / self.start
        # Where the parabola of what is expected so far has this height.
        root = math.sqrt(max(0.0, self.start**2 + 2 * slope * count))
        return (root - self.start) / slope


def arrivals(
    course: Course,
    kind: Literal["poisson", "constant"],
    rng: np.random.Generator,
    part: tuple[int, int] = (0, 1),
) -> Iterator[float]:
    """Seconds from the beginning at which requests are due, in order.

    `part` is (number, of how many): one of several processes that share the load out. Constant
    ones take turns; Poisson ones have a process of their own each, whose sum is one again.
    """
    number, parts = part
    if kind == "constant":
        for at in range(number, math.ceil(course.total), parts):
            if at < course.total:
                yield course.when(at)
        return
    own = Course(course.start / parts, course.end / parts, course.seconds)
    expected = rng.exponential()
    while expected < own.total:
        yield own.when(expected)
        expected += rng.exponential()
