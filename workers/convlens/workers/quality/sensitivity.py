"""Max-Sensitivity: how much a map changes when the picture hardly does."""

from collections.abc import Callable

import torch
from torch import Tensor

from convlens.contract import Failure
from convlens.v1 import quality_pb2
from convlens.workers.methods.randomness import uniform
from convlens.workers.runner import Steps, side_by_side


def max_sensitivity(
    x: Tensor,
    map_: Tensor,
    method: Callable[[Tensor], Steps[Tensor]],
    p: quality_pb2.MaxSensitivity,
    seed: int,
    at_once: int,
) -> Steps[float]:
    """The largest ‖M(x + noise) - M(x)‖ / ‖M(x)‖ over samples of uniform noise within the radius.

    `method` gives the map M of a picture in the place of x [channels, height, width]; `map_` is
    M(x), not zero everywhere. So many samples are under way `at_once`, for each holds a picture.
    Pictures stay in [0, 1]. Yeh et al. 2019, arXiv:1901.09392, definition 4.
    """
    changes: list[Tensor] = []
    for start in range(0, p.samples, at_once):
        samples = range(start, min(start + at_once, p.samples))
        near = [neighbour(x, p.radius, seed, sample) for sample in samples]
        for found in (yield from side_by_side([method(each) for each in near])):
            if isinstance(found, Failure):
                raise found
            changes.append(_length(found - map_) / _length(map_))
    # As one tensor, so that NaN is not lost.
    return float(torch.stack(changes).max())


def neighbour(x: Tensor, radius: float, seed: int, sample: int) -> Tensor:
    """A picture near x: no value is further away than the radius, or leaves [0, 1]."""
    noise = 2 * uniform(x, seed, "max_sensitivity", sample) - 1
    return (x + radius * noise).clamp(0, 1)


def _length(values: Tensor) -> Tensor:
    return values.double().square().sum().sqrt()
