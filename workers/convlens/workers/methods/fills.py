"""What stands for "nothing to see" in a picture."""

from collections.abc import Sequence

import torch
from torch import Tensor

from convlens.v1 import image_pb2
from convlens.workers.methods.randomness import uniform


def filled(x: Tensor, fill: int, *, mean: Sequence[float], sigma: float, seed: int) -> Tensor:
    """A picture of the shape of x [channels, height, width] that shows nothing.

    `mean` is the colour that the network was trained with, `sigma` how much FILL_BLUR blurs, in
    pixels, and `seed` that of FILL_NOISE.
    """
    if fill == image_pb2.FILL_GREY:
        return torch.full_like(x, 0.5)
    if fill == image_pb2.FILL_BLACK:
        return torch.zeros_like(x)
    if fill == image_pb2.FILL_MEAN:
        return torch.tensor(mean, dtype=x.dtype, device=x.device).view(-1, 1, 1).expand_as(x)
    if fill == image_pb2.FILL_BLUR:
        return blurred(x, sigma)
    if fill == image_pb2.FILL_NOISE:
        return uniform(x, seed, "fill")
    raise ValueError(f"no fill has the number {fill}")


def blurred(x: Tensor, sigma: float) -> Tensor:
    """x under a Gaussian of `sigma` pixels, cut at three of them or where the picture ends."""
    # It takes a second to import, which only who blurs shall wait for.
    from torchvision.transforms.v2.functional import (  # pyright: ignore[reportMissingTypeStubs]
        gaussian_blur,
    )

    # Reflection needs a border that is narrower than the picture.
    widest = 2 * (min(x.shape[-2:]) - 1) + 1
    width = min(2 * round(3 * sigma) + 1, widest)
    return gaussian_blur(x, [width, width], [sigma, sigma])
