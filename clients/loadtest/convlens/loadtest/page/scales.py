"""Axes: where a value lies on one, and what is written beside it."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import final

from convlens.loadtest.results.words import digits, seconds

STEPS = (1, 2, 2.5, 5, 10)
CLOCK = (0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21_600)
# What is labelled of times: 1, 2 and 5 of each power of ten, from 1 µs on.
MARKS = [n * 10.0**power for power in range(-6, 5) for n in (1, 2, 5)]
# What is labelled of the axis of percentiles.
NINES = (0.0, 50.0, 90.0, 99.0, 99.9, 99.99, 99.999)


@dataclass(frozen=True, slots=True)
class Tick:
    """A place on an axis, from 0 to 1, with its words."""

    at: float
    label: str


class Scale(ABC):
    """Turns values into places from 0 to 1."""

    @abstractmethod
    def place(self, value: float) -> float:
        """Where a value lies."""

    @abstractmethod
    def ticks(self) -> Sequence[Tick]:
        """What is written along it."""


@final
@dataclass(frozen=True, slots=True)
class Linear(Scale):
    """From 0 to an end."""

    end: float
    label: Callable[[float], str] = digits
    #: Between two of what is written along it; else a round one.
    step: float = 0.0

    def place(self, value: float) -> float:
        """Where a value lies."""
        return value / self.end

    def ticks(self) -> Sequence[Tick]:
        """Some five, at round values."""
        step = self.step or round_step(self.end / 5)
        last = math.floor(self.end / step + 1e-9)
        return [Tick(self.place(n * step), self.label(n * step)) for n in range(last + 1)]


@final
@dataclass(frozen=True, slots=True)
class Log(Scale):
    """From `low` to `high` by powers, for times in seconds."""

    low: float
    high: float

    @classmethod
    def around(cls, values: Iterable[float]) -> "Log":
        """The axis that has room for these times; it ends at 1, 2 or 5 of some unit."""
        real = [value for value in values if value > 0]
        least, most = min(real, default=1e-3), max(real, default=1.0)
        low = max(each for each in MARKS if each <= max(least, MARKS[0]) * 1.0001)
        high = min(each for each in MARKS if each >= min(most, MARKS[-1]) * 0.9999)
        return cls(low, max(high, 5 * low))

    def place(self, value: float) -> float:
        """Where a value lies; what is below the axis lies at its foot."""
        return math.log(max(value, self.low) / self.low) / math.log(self.high / self.low)

    def ticks(self) -> Sequence[Tick]:
        """Each power of ten, with those between where there are few."""
        marks = MARKS if self.high / self.low < 2000 else MARKS[::3]
        own = [each for each in marks if self.low * 0.999 <= each <= self.high * 1.001]
        return [Tick(self.place(each), seconds(each)) for each in own]


@final
@dataclass(frozen=True, slots=True)
class Percentiles(Scale):
    """Percent, with as much room from 90 to 99 as from 99 to 99.9."""

    nines: float

    def place(self, value: float) -> float:
        """Where a percentile lies."""
        return min(1.0, nines_of(value) / self.nines)

    def ticks(self) -> Sequence[Tick]:
        """The usual ones, as far as there are requests enough."""
        return [
            Tick(self.place(each), f"{each:g} %")
            for each in NINES
            if nines_of(each) <= self.nines + 1e-9
        ]


def clock(end: float) -> Linear:
    """An axis of the seconds since the beginning, or of minutes and hours."""
    step = next((each for each in CLOCK if end / each <= 7), 86_400.0)
    return Linear(end, clock_label, step)


def clock_label(value: float) -> str:
    """Seconds since the beginning: "1:30" is 90 s."""
    if value < 60:
        return f"{digits(value)} s"
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def nines_of(percent: float) -> float:
    """2 of 99 %, 3 of 99.9 %."""
    return -math.log10(max(1e-12, 1 - percent / 100))


def linear(values: Iterable[float], label: Callable[[float], str] = digits) -> Linear:
    """An axis from 0 with room for these values."""
    most = max(values, default=0.0) or 1.0
    step = round_step(most / 5)
    return Linear(math.ceil(most / step - 1e-9) * step, label)


def round_step(size: float) -> float:
    """The next of 1, 2, 2.5, 5 and their tens."""
    power = 10.0 ** math.floor(math.log10(size))
    return next(n * power for n in STEPS if n * power >= size * (1 - 1e-9))
