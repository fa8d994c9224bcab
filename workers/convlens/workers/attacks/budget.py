"""How far an attack may go: the pictures within epsilon of x, and within the bounds of pixels."""

from abc import ABC, abstractmethod
from typing import Any, Protocol

import torch
from torch import Tensor

from convlens.v1 import attack_methods_pb2 as methods
from convlens.workers.attacks.attempt import Task
from convlens.workers.methods.randomness import normal, uniform


class WithBudget(Protocol):
    """Parameters that say how far."""

    norm: methods.Norm.ValueType
    epsilon: float
    epsilon_l2: float


class Budget(ABC):
    """Pictures near x; `epsilon` in the units of its norm, over all values of x in [0, 1]."""

    def __init__(self, task: Task, epsilon: float) -> None:
        self.x = task.x
        self.epsilon = epsilon
        self.low, self.high = task.bounds

    @abstractmethod
    def project(self, pixels: Tensor) -> Tensor:
        """The nearest allowed picture to pixels; |project(...) - x| <= epsilon holds exactly."""

    @abstractmethod
    def random(self, *parts: int | str) -> Tensor:
        """An allowed picture, drawn uniformly before the bounds cut it, for what the parts name."""

    @abstractmethod
    def direction(self, gradient: Tensor) -> Tensor:
        """The steepest way up of length 1 in this norm, as numbers of the kind of x.

        It is 0 where the gradient is.
        """


class Linf(Budget):
    """No value changes by more than epsilon."""

    def __init__(self, task: Task, epsilon: float) -> None:
        super().__init__(task, epsilon)
        exact = self.x.double()
        self._least = self._inward(exact - epsilon).clamp(self.low, self.high)
        self._most = self._inward(exact + epsilon).clamp(self.low, self.high)

    def project(self, pixels: Tensor) -> Tensor:
        """Clamps every value."""
        return torch.minimum(torch.maximum(pixels, self._least), self._most)

    def random(self, *parts: int | str) -> Tensor:
        """Every value by itself."""
        return self.project(self.x + self.epsilon * (2 * uniform(self.x, *parts) - 1))

    def direction(self, gradient: Tensor) -> Tensor:
        """The sign."""
        return gradient.sign().to(self.x.dtype)

    def _inward(self, exact: Tensor) -> Tensor:
        """The numbers of the kind of x that are nearest to exact ones, and not too far from x."""
        found = exact.to(self.x.dtype)
        is_far = (found.double() - self.x.double()).abs() > self.epsilon
        return torch.where(is_far, torch.nextafter(found, self.x), found)


class L2(Budget):
    """The change over all values is no longer than epsilon."""

    def project(self, pixels: Tensor) -> Tensor:
        """Shortens the change, and clamps what would still leave the bounds."""
        share = self._share(pixels.clamp(self.low, self.high), pixels)
        found = self._moved(pixels, share)
        while (length := self._length(found)) > self.epsilon:
            # Rounding may leave it a little too long; then it is shortened a little more.
            share *= self.epsilon / length * (1 - torch.finfo(found.dtype).eps)
            found = self._moved(pixels, share)
        return found

    def _share(self, clamped: Tensor, pixels: Tensor) -> float:
        """How much of the change is left: all, or as much as makes it epsilon long in the bounds.

        It starts with too little. Each turn takes those values as clamped that are by then; with a
        larger share more are, so that it grows until there are no more.
        """
        if self._length(clamped) <= self.epsilon:
            return 1.0
        change = (pixels - self.x).double()
        least, most = ((bound - self.x).double() for bound in (self.low, self.high))
        share, longer = 0.0, self.epsilon / length_of(change)
        while longer > share:
            share = longer
            moved = change * share
            is_free = (moved > least) & (moved < most)
            spent = length_of(torch.where(is_free, 0, moved.clamp(least, most)))
            free = length_of(change * is_free)
            longer = (self.epsilon**2 - spent**2) ** 0.5 / free if free else share
        return share

    def _moved(self, pixels: Tensor, share: float) -> Tensor:
        return (self.x + (pixels - self.x) * share).clamp(self.low, self.high)

    def _length(self, pixels: Tensor) -> float:
        return length_of(pixels.double() - self.x.double())

    def random(self, *parts: int | str) -> Tensor:
        """A normal direction, and the root of a uniform number that makes the ball even."""
        way = normal(self.x, *parts, "direction")
        share = uniform(torch.empty(1), *parts, "length").item() ** (1 / self.x.numel())
        return self.project(self.x + way * (self.epsilon * share / length_of(way)))

    def direction(self, gradient: Tensor) -> Tensor:
        """The gradient, at unit length."""
        length = length_of(gradient)
        return (gradient / length if length > 0 else gradient).to(self.x.dtype)


def length_of(change: Tensor) -> float:
    """Euclidean length over all values, in double precision."""
    return float(change.double().square().sum().sqrt())


def budget_of(task: Task, p: "WithBudget | Any") -> Budget:
    """The budget that the parameters name."""
    if p.norm == methods.NORM_L2:
        return L2(task, p.epsilon_l2)
    return Linf(task, p.epsilon)
