"""Shares of right answers: with intervals, by class and by group, and against confidence."""

# scipy has no types.
# pyright: reportMissingTypeStubs=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Bins of confidence, as Guo et al. 2017 have them.
BINS = 15


@dataclass(frozen=True, slots=True)
class Share:
    """`right` of `count` pictures; `low` and `high` are Wilson's interval of 95 %, in [0, 1]."""

    name: str
    right: int
    count: int

    @property
    def share(self) -> float:
        """In [0, 1]."""
        return self.right / self.count

    @property
    def low(self) -> float:
        """The lower end of the interval."""
        return wilson(self.right, self.count)[0]

    @property
    def high(self) -> float:
        """The upper end."""
        return wilson(self.right, self.count)[1]

    def apart(self, other: "Share") -> bool:
        """Whether the intervals do not touch."""
        return self.low > other.high or other.low > self.high


def wilson(right: int, count: int) -> tuple[float, float]:
    """The interval of 95 % of a share, in [0, 1].

    Wilson 1927, doi:10.1080/01621459.1927.10502953.
    """
    from scipy.stats import binomtest

    found = binomtest(right, count).proportion_ci(0.95, "wilson")
    return float(found.low), float(found.high)


def share_of(name: str, right: NDArray[np.bool_]) -> Share:
    """Of pictures that were told right, or not."""
    return Share(name, int(right.sum()), len(right))


def shares_by(names: Sequence[str], of: Sequence[str], right: NDArray[np.bool_]) -> list[Share]:
    """One of each name that pictures have; those with another name, or none, are in none."""
    groups = np.asarray(of, object)
    masks = ((name, groups == name) for name in names)
    return [share_of(name, right[mask]) for name, mask in masks if mask.any()]


@dataclass(frozen=True, slots=True)
class Bin:
    """Pictures whose confidence is above `low` and at most `high`, and how many are right."""

    low: float
    high: float
    count: int
    confidence: float
    accuracy: float


def bins_of(confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> list[Bin]:
    """The bins that have pictures; 15 of equal width."""
    numbers = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    return [
        Bin(
            number / BINS,
            (number + 1) / BINS,
            int((numbers == number).sum()),
            float(confidence[numbers == number].mean()),
            float(right[numbers == number].mean()),
        )
        for number in np.unique(numbers).tolist()
    ]


def calibration_error(bins: Sequence[Bin]) -> float:
    """The expected calibration error in [0, 1]: how far confidence is from accuracy, on average."""
    total = sum(each.count for each in bins)
    return sum(each.count * abs(each.accuracy - each.confidence) for each in bins) / total


def mcnemar(before: NDArray[np.bool_], after: NDArray[np.bool_]) -> tuple[int, int, float]:
    """Mistakes that were mended and made, and how likely chance alone would part them so."""
    mended, made = int((after & ~before).sum()), int((before & ~after).sum())
    return mended, made, chance(mended, made)


def chance(first: int, second: int) -> float:
    """How likely two counts that should be equal are so far apart, or further.

    The exact test of McNemar 1947, doi:10.1007/BF02295996, two-sided.
    """
    from scipy.stats import binomtest

    return float(binomtest(first, first + second).pvalue) if first + second else 1.0
