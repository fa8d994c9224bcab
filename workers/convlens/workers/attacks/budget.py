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
        """The steepest way up of length 1 in this norm; 0 where the gradient is."""


class Linf(Budget):
    """No value changes by more than epsilon."""

    def __init__(self, task: Task, epsilon: float) -> None:
        super().__init__(task, epsilon)
        exact = self.x.double()
        self._least = _at_least(exact - epsilon, self.x).clamp(self.low, self.high)
        self._most = _at_most(exact + epsilon, self.x).clamp(self.low, self.high)

    def project(self, pixels: Tensor) -> Tensor:
        """Clamps every value."""
        return torch.minimum(torch.maximum(pixels, self._least), self._most)

    def random(self, *parts: int | str) -> Tensor:
        """Every value by itself."""
        return self.project(self.x + self.epsilon * (2 * uniform(self.x, *parts) - 1))

    def direction(self, gradient: Tensor) -> Tensor:
        """The sign."""
        return gradient.sign()


class L2(Budget):
    """The change over all values is no longer than epsilon."""

    def project(self, pixels: Tensor) -> Tensor:
        """Shortens the change, then clamps, which shortens it further."""
        pixels = pixels.clamp(self.low, self.high)
        shrink = 1.0
        found = pixels
        while (length := length_of(found.double() - self.x.double())) > self.epsilon:
            # Rounding may leave it a little too long; then it is shortened a little more.
            shrink *= self.epsilon / length * (1 - 1e-7)
            found = (self.x + (pixels - self.x) * shrink).clamp(self.low, self.high)
        return found

    def random(self, *parts: int | str) -> Tensor:
        """A normal direction, and the root of a uniform number that makes the ball even."""
        way = normal(self.x, *parts, "direction")
        share = uniform(torch.empty(1), *parts, "length").item() ** (1 / self.x.numel())
        return self.project(self.x + way * (self.epsilon * share / length_of(way)))

    def direction(self, gradient: Tensor) -> Tensor:
        """The gradient, at unit length."""
        length = length_of(gradient)
        return gradient / length if length > 0 else gradient


def length_of(change: Tensor) -> float:
    """Euclidean length over all values, in double precision."""
    return float(change.double().square().sum().sqrt())


def budget_of(task: Task, p: "WithBudget | Any") -> Budget:
    """The budget that the parameters name."""
    if p.norm == methods.NORM_L2:
        return L2(task, p.epsilon_l2)
    return Linf(task, p.epsilon)


def _at_least(exact: Tensor, like: Tensor) -> Tensor:
    """The numbers of the kind of `like` that are nearest to exact ones, and not below them."""
    found = exact.to(like.dtype)
    up = torch.nextafter(found, torch.full_like(found, float("inf")))
    return torch.where(found.double() < exact, up, found)


def _at_most(exact: Tensor, like: Tensor) -> Tensor:
    found = exact.to(like.dtype)
    down = torch.nextafter(found, torch.full_like(found, float("-inf")))
    return torch.where(found.double() > exact, down, found)
