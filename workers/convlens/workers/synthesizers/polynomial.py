"""Polynomial mutation."""

import torch
from torch import Generator, Tensor


def polynomial(like: Tensor, index: float, generator: Generator) -> Tensor:
    """Changes in [-1, 1], in the shape of `like`, with density (index + 1) (1 - |d|)^index / 2.

    They are relative to the range of what they change. Deb & Goyal 1996, "A combined genetic
    adaptive search (GeneAS) for engineering design", section 3.
    """
    at = torch.rand(like.shape, generator=generator, dtype=torch.float64)
    # Both halves of the inverse of the distribution: 1 - |d| = (2 u)^(1 / (index + 1)).
    kept = (2 * torch.minimum(at, 1 - at)).pow(1 / (index + 1))
    return torch.where(at < 0.5, kept - 1, 1 - kept)
