"""L-BFGS within bounds: quasi-Newton steps for the values that are free to move."""

import math
from collections import deque
from collections.abc import Generator
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

import torch
from torch import Tensor

R = TypeVar("R")

# Yields places at which the function is wanted, and is sent its value and its gradient there.
Search: TypeAlias = Generator[Tensor, tuple[float, Tensor], R]

# A step is taken where the value falls by this share of what the slope promises (Armijo).
_SHARE = 1e-4
_TRIALS = 20
# Values so near to a bound do not hold back the others on their way to it.
_NEAR = 1e-6


@dataclass(frozen=True, slots=True)
class Bounds:
    """The least and the largest value."""

    low: float
    high: float

    def holds(self, place: Tensor, gradient: Tensor) -> Tensor:
        """Which values are at a bound that they would be driven over."""
        at_low = (place <= self.low + _NEAR) & (gradient > 0)
        at_high = (place >= self.high - _NEAR) & (gradient < 0)
        return at_low | at_high


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """A place, and the value and the gradient there."""

    place: Tensor
    value: float
    gradient: Tensor


def projected_lbfgs(
    start: Tensor, bounds: Bounds, memory: int, iterations: int, tolerance: float
) -> Search[None]:
    """Goes down from `start` to a minimum within the bounds, for any shape of place.

    An iteration projects a quasi-Newton step of the free values; the values held by a bound go down
    their gradient. It ends where the value falls by less than `tolerance`, relative to itself where
    that is more than 1. Of the places that it asks for, the one with the least value is the result.
    Bertsekas 1982, SIAM J. Control Optim. 20(2); Nocedal & Wright, algorithm 7.4.
    """
    known = Known(start, *(yield start))
    curvature = Curvature(memory)
    for _ in range(iterations):
        held = bounds.holds(known.place, known.gradient)
        direction = curvature.direction(known.gradient, held)
        found = yield from _line_search(known, direction, curvature.first_length(direction), bounds)
        if found is not None:
            curvature.learn(found.place - known.place, found.gradient - known.gradient)
            before, known = known, found
            size = max(abs(before.value), abs(known.value), 1.0)
            if before.value - known.value <= tolerance * size:
                break
        elif curvature.is_empty:
            break
        else:
            # What was learned no longer fits; the gradient alone may lead on.
            curvature.forget()


def _line_search(
    known: Known, direction: Tensor, length: float, bounds: Bounds
) -> Search[Known | None]:
    """The first of shorter and shorter steps that is good enough; None where none is."""
    for _ in range(_TRIALS):
        place = torch.add(known.place, direction, alpha=length).clamp_(bounds.low, bounds.high)
        promised = _dot(known.gradient, place - known.place)
        if promised == 0 and torch.equal(place, known.place):
            return None
        value, gradient = yield place
        rise = value - known.value
        if promised < 0 and rise <= _SHARE * promised:
            return Known(place, value, gradient)
        # The minimum of the parabola through what is known, where there is one.
        lack = rise - promised
        share = -promised / (2 * lack) if lack > 0 else 0.5
        length *= min(max(share, 0.1), 0.5)
    return None


class Curvature:
    """What the last steps say about the curvature, and the quasi-Newton steps that follow."""

    def __init__(self, memory: int) -> None:
        self._pairs: deque[tuple[Tensor, Tensor]] = deque(maxlen=memory)

    @property
    def is_empty(self) -> bool:
        """Whether steps go down the gradient."""
        return not self._pairs

    def learn(self, moved: Tensor, turned: Tensor) -> None:
        """Takes a step, and the change of the gradient on it."""
        if _is_convex(_dot(moved, turned), turned):
            self._pairs.append((moved, turned))

    def forget(self) -> None:
        """Begins again."""
        self._pairs.clear()

    def first_length(self, direction: Tensor) -> float:
        """How much of a direction is tried first: all, or what is no longer than 1."""
        length = math.sqrt(_dot(direction, direction))
        return 1.0 if self._pairs or length <= 1 else 1 / length

    def direction(self, gradient: Tensor, held: Tensor) -> Tensor:
        """Minus the gradient, times the inverse curvature of the values that are not held."""
        free = ~held
        pairs = self._among(free)
        scale = 1.0
        if pairs:
            moved, turned, product = pairs[-1]
            scale = product / _dot(turned, turned)
        way = gradient * free
        weights: list[float] = []
        for moved, turned, product in reversed(pairs):
            weights.append(_dot(moved, way) / product)
            way.sub_(turned, alpha=weights[-1])
        way.mul_(scale)
        for moved, turned, product in pairs:
            way.add_(moved, alpha=weights.pop() - _dot(turned, way) / product)
        return torch.where(free, way, scale * gradient).neg_()

    def _among(self, free: Tensor) -> list[tuple[Tensor, Tensor, float]]:
        """The pairs for the free values alone, with their products, where these are convex."""
        cut = [(moved * free, turned * free) for moved, turned in self._pairs]
        products = ((moved, turned, _dot(moved, turned)) for moved, turned in cut)
        return [each for each in products if _is_convex(each[2], each[1])]


def _is_convex(product: float, turned: Tensor) -> bool:
    """Whether the gradient turned with the step, by more than what rounding may do."""
    return product > torch.finfo(turned.dtype).eps * _dot(turned, turned)


def _dot(a: Tensor, b: Tensor) -> float:
    return float(torch.dot(a.flatten(), b.flatten()))
