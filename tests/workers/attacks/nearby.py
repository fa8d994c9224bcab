"""Random starts and projections, written once more: slowly, from the same random numbers."""

from typing import Any

import torch
from torch import Tensor

from convlens.v1 import attack_methods_pb2 as methods
from convlens.workers.methods.randomness import generator_of


def drawn(x: Tensor, p: Any, name: str, start: int, seed: int = 3) -> Tensor:
    """Uniform in a cube, or in a ball, then cut to the box."""
    if p.norm == methods.NORM_LINF:
        numbers = torch.rand(x.shape, generator=generator_of(seed, name, start)).double()
        return (x + (2 * numbers - 1) * p.epsilon).clamp(0, 1)
    way = torch.randn(x.shape, generator=generator_of(seed, name, start, "direction")).double()
    number = float(torch.rand(1, generator=generator_of(seed, name, start, "length")))
    return (x + p.epsilon_l2 * number ** (1 / x.numel()) * way / way.norm()).clamp(0, 1)


def projected(x: Tensor, pixels: Tensor, p: Any) -> Tensor:
    """The nearest point within epsilon of x and within the box."""
    if p.norm == methods.NORM_LINF:
        return pixels.clamp(x - p.epsilon, x + p.epsilon).clamp(0, 1)
    return nearest_in_l2(x, pixels, p.epsilon_l2)


def nearest_in_l2(x: Tensor, pixels: Tensor, epsilon: float) -> Tensor:
    """The conditions of Karush, Kuhn and Tucker, with the multiplier found by halving."""

    def at(share: float) -> Tensor:
        return (x + share * (pixels - x)).clamp(0, 1)

    low, high = 0.0, 1.0
    if (at(high) - x).norm() <= epsilon:
        return at(high)
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if (at(middle) - x).norm() > epsilon else (middle, high)
    return at(low)
