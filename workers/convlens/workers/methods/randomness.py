"""Random numbers that depend on what they are for, and on nothing that happened before."""

from hashlib import blake2b

import torch
from torch import Tensor


def generator_of(*parts: int | str) -> torch.Generator:
    """A generator for what the parts name: a seed, an item, a sample, and what is drawn."""
    name = "/".join(map(str, parts)).encode()
    seed = int.from_bytes(blake2b(name, digest_size=8).digest(), "little", signed=True)
    return torch.Generator().manual_seed(seed)


def normal(like: Tensor, *parts: int | str) -> Tensor:
    """Normal numbers in the shape and at the place of `like`, the same on every device."""
    numbers = torch.randn(like.shape, generator=generator_of(*parts), dtype=torch.float32)
    return numbers.to(like.device, like.dtype)


def uniform(like: Tensor, *parts: int | str) -> Tensor:
    """Numbers in [0, 1), likewise."""
    numbers = torch.rand(like.shape, generator=generator_of(*parts), dtype=torch.float32)
    return numbers.to(like.device, like.dtype)
