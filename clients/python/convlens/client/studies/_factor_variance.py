"""How much of the variance of codes each factor explains, after Aubry & Russell 2015.

All of it follows from the products of the codes with each other, so that the length of a code does
not matter: what is in memory is [pictures, pictures].
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from convlens.client.studies._grid import Factor

# The part of the variance that principal components must explain to count as all of it.
ENOUGH = 0.9
# Less than this part of all variance is rounding.
NOTHING = 1e-9
# Numbers of codes that are in memory at a time.
BLOCK = 2**22

Floats: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """A part of the variance: its share of all, and its intrinsic dimension.

    That is the number of principal components that explain 90 % of it. `places` [values, 2] are the
    means of a factor's values in its two strongest components, in the units of the codes.
    """

    name: str
    share: float
    dimension: int
    places: Floats | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """The variance of a layer's codes, what each factor and the rest explain, and their dimension.

    `variance` is the mean squared distance of a code to the mean code.
    """

    variance: float
    dimension: int
    factors: tuple[Part, ...]
    rest: Part

    @property
    def total(self) -> float:
        """What the shares add up to: 1 where the grid is complete."""
        return sum(part.share for part in self.factors) + self.rest.share


def products(codes: NDArray[np.floating]) -> Floats:
    """Products [pictures, pictures] of codes [pictures, ...] less their mean."""
    flat = codes.reshape(len(codes), -1)
    made = np.zeros((len(flat), len(flat)))
    step = max(1, BLOCK // len(flat))
    for start in range(0, flat.shape[1], step):
        block = flat[:, start : start + step].astype(np.float64)
        block -= block.mean(0)
        made += block @ block.T
    return made


def parts(gram: Floats, factors: Sequence[Factor]) -> Parts:
    """What each factor explains of codes with these products, and the rest.

    A factor explains the variance of the mean codes of its values, over all pictures that have the
    value. The rest is what the sum of these means leaves of each code: what the factors do together
    and what none of them says. In a complete grid the parts are uncorrelated and add up to 1.
    """
    variance = float(gram.trace()) / len(gram)
    left = _without(factors, _without(factors, gram).T)
    rest = float(left.trace()) / len(gram) / variance
    return Parts(
        variance,
        _dimension(gram),
        tuple(_part(factor, gram, variance) for factor in factors),
        Part("the rest", rest, _dimension(left) if rest > NOTHING else 0),
    )


def dimension(variances: Floats) -> int:
    """How many of the largest variances make up 90 % of their sum."""
    sums: Floats = np.cumsum(np.sort(np.maximum(variances, 0))[::-1])
    return int((sums < (ENOUGH - NOTHING) * sums[-1]).sum()) + 1


def _dimension(gram: Floats) -> int:
    found: Any = np.linalg.eigvalsh(gram)
    return dimension(found)


def _part(factor: Factor, gram: Floats, variance: float) -> Part:
    counts = np.bincount(factor.levels)
    between = _means(factor, _means(factor, gram).T)
    weights = np.sqrt(counts / counts.sum())
    found, directions = np.linalg.eigh(weights[:, None] * between * weights)
    share = float(found.sum()) / variance
    # Largest first, and each so that later values lie further right, or up.
    strongest = directions[:, ::-1][:, :2] * np.sqrt(np.clip(found[::-1][:2], 0, None))
    strongest = strongest / weights[:, None]
    ramp = np.arange(len(counts)) - (len(counts) - 1) / 2
    places = strongest * np.where(ramp @ strongest < 0, -1, 1)
    return Part(factor.name, share, dimension(found) if share > NOTHING else 0, places)


def _without(factors: Sequence[Factor], rows: Floats) -> Floats:
    """The rows less the means of all their values."""
    left = rows.copy()
    for factor in factors:
        left -= _means(factor, rows)[factor.levels]
    return left


def _means(factor: Factor, rows: Floats) -> Floats:
    """The mean of the rows of each value."""
    has = np.eye(len(factor.values))[:, factor.levels]
    return has @ rows / has.sum(1)[:, None]
