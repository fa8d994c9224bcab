"""Times in a High Dynamic Range histogram."""

import math
import zlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from hdrh.codec import (  # pyright: ignore[reportMissingTypeStubs]
    HdrCookieException,
    HdrLengthException,
)
from hdrh.histogram import HdrHistogram  # pyright: ignore[reportMissingTypeStubs]
from numpy.typing import NDArray

# Microseconds that can be told apart, and counted at all: an hour and a half.
LOWEST, HIGHEST = 1, 5_400_000_000


class Histogram:
    """Times in seconds, to `digits` significant digits each."""

    def __init__(self, digits: int = 3) -> None:
        self._hdr: Any = HdrHistogram(LOWEST, HIGHEST, digits)
        self._sum = 0.0
        # The library's own minimum of a sum is 0 where one of both is empty.
        self._least, self._most = math.inf, 0.0

    @classmethod
    def decoded(cls, text: str) -> "Histogram":
        """The histogram of a text that `encoded` made; ValueError where it is none."""
        made = cls()
        try:
            made._hdr = HdrHistogram.decode(text)
        except (HdrCookieException, HdrLengthException, TypeError, ValueError, zlib.error) as error:
            raise ValueError(f"no histogram: {error}") from error
        made._sum = made._hdr.get_mean_value() * made.count / 1e6
        if made.count:
            made._least = made._hdr.min_value / 1e6
            made._most = made._hdr.max_value / 1e6
        return made

    def encoded(self) -> str:
        """As other tools for such histograms read it: compressed, in base64."""
        data: bytes = self._hdr.encode()
        return data.decode("ascii")

    @property
    def count(self) -> int:
        """How many times are in it."""
        return int(self._hdr.get_total_count())

    def record(self, seconds: NDArray[Any]) -> None:
        """Puts times in."""
        if not seconds.size:
            return
        self._sum += float(seconds.sum(dtype=np.float64))
        self._least = min(self._least, float(seconds.min()))
        self._most = max(self._most, float(seconds.max()))
        micros = np.clip(np.rint(seconds * 1e6), LOWEST, HIGHEST - 1).astype(np.int64)
        for value, count in zip(*np.unique(micros, return_counts=True), strict=True):
            self._hdr.record_value(int(value), int(count))

    def add(self, other: "Histogram") -> None:
        """Puts another's times in."""
        self._hdr.add(other._hdr)
        self._sum += other._sum
        self._least = min(self._least, other._least)
        self._most = max(self._most, other._most)

    def percentiles(self, wanted: Iterable[float]) -> list[float]:
        """The time that so many percent are at or below, of each; NaN where there are none."""
        asked = list(wanted)
        if not self.count:
            return [math.nan] * len(asked)
        found: dict[float, int] = self._hdr.get_percentile_to_value_dict(asked)
        # A bucket's upper end may be above the largest time in it.
        most = self.most
        return [min(found[each] / 1e6, most) for each in asked]

    @property
    def mean(self) -> float:
        """The mean; NaN where there are none."""
        return self._sum / self.count if self.count else math.nan

    @property
    def least(self) -> float:
        """The smallest."""
        return self._least if self.count else math.nan

    @property
    def most(self) -> float:
        """The largest."""
        return self._most if self.count else math.nan

    def curve(self, points: int = 160) -> Sequence[tuple[float, float]]:
        """Percentiles with their times, ever closer together towards 100."""
        if not self.count:
            return []
        nines = math.log10(max(10, self.count))
        shares = [1 - 10 ** (-nines * n / points) for n in range(points + 1)]
        percents = [100 * share for share in shares]
        return list(zip(percents, self.percentiles(percents), strict=True))


def merged(histograms: Iterable[Histogram], digits: int = 3) -> Histogram:
    """All of them together."""
    total = Histogram(digits)
    for each in histograms:
        total.add(each)
    return total
