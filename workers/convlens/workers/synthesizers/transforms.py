"""Small random moves of a picture at each step, so that it does not depend on single pixels."""

import math

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from convlens.v1 import synthesis_methods_pb2 as methods
from convlens.workers.methods.randomness import uniform
from convlens.workers.synthesizers.task import Task

_GREY = 0.5


def moved(task: Task, priors: methods.Priors, pixels: Tensor, step: int) -> Tensor:
    """The picture [channels, height, width] as it is shown at a step, on a canvas of its size.

    A grey border is put around it, and the whole is shifted, scaled and turned at random, each by
    what the priors allow at most. What comes from outside is grey. Where they allow nothing, the
    picture is what it was. Gradients go through. Olah et al. 2017, doi:10.23915/distill.00007.
    """
    if not (priors.padding or priors.jitter or priors.scale or priors.rotation):
        return pixels
    draws = list(map(float, uniform(torch.empty(4), task.seed, "transform", task.number, step)))
    down, right = (math.floor(u * (2 * priors.jitter + 1)) - priors.jitter for u in draws[:2])
    scale, angle = (2 * u - 1 for u in draws[2:])
    return resampled(
        pixels,
        priors.padding,
        (down, right),
        1 + priors.scale * scale,
        math.radians(priors.rotation * angle),
    )


def resampled(
    pixels: Tensor, padding: int, shift: tuple[float, float], scale: float, angle: float
) -> Tensor:
    """One bilinear resampling of a picture with a border, shifted, scaled, and turned by `angle`.

    The shift is in pixels of the picture, down and to the right; the angle in radians,
    anticlockwise.
    """
    *_, height, width = pixels.shape
    rows, columns = _centred(height, pixels), _centred(width, pixels)
    # Where on the padded picture a pixel of the canvas looks, from its middle.
    y = rows[:, None] * (height + 2 * padding) / height / scale
    x = columns[None] * (width + 2 * padding) / width / scale
    sine, cosine = math.sin(angle), math.cos(angle)
    down, right = shift
    from_top = cosine * y + sine * x - down
    from_left = cosine * x - sine * y - right
    # In what grid_sample counts in, a picture goes from -1 to 1.
    places = torch.stack([2 * from_left / width, 2 * from_top / height], dim=-1)
    # Its gradient is a sum in no fixed order on a GPU.
    grey = pixels.cpu()[None] - _GREY
    found = grid_sample(grey, places[None], "bilinear", "zeros", align_corners=False)
    return (found[0] + _GREY).to(pixels.device)


def _centred(size: int, like: Tensor) -> Tensor:
    """The middles of pixels along an axis, from its own middle."""
    return torch.arange(size, dtype=like.dtype) + 0.5 - size / 2
