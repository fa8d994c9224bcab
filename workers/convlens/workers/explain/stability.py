"""When a map that improves is good enough: its strongest pixels stay the same."""

import math
from dataclasses import replace

import torch
from torch import Tensor

from convlens.workers.explain.found import Found, converted
from convlens.workers.runner import Steps

STRONGEST = 0.05


def settling(steps: Steps[Found], share: float) -> Steps[Found]:
    """A method whose map so far is not partial any more once its strongest pixels stay the same.

    That is so where the asked share of them was among the strongest with half the samples; never
    with a share of 0.
    """
    if not share:
        return steps
    stability = Stability(share)

    def so_far(found: Found) -> Found:
        return replace(found, is_partial=False) if stability.has_settled(found) else found

    return converted(steps, lambda found: found, so_far)


class Stability:
    """Compares the strongest pixels of a map each time that its samples have doubled.

    What it says depends on the map's own history alone, never on the clock.
    """

    def __init__(self, share: float) -> None:
        self._share = share
        self._samples = 0
        self._before: Tensor | None = None
        self._settled = False

    def has_settled(self, found: Found) -> bool:
        """Whether the asked share of the strongest pixels was among them with half the samples."""
        if found.map is None or self._settled or found.samples < 2 * self._samples:
            return self._settled
        strongest = _strongest(found.map)
        if self._before is not None:
            kept = int(torch.isin(strongest, self._before).sum())
            self._settled = kept >= self._share * len(strongest)
        self._samples, self._before = found.samples, strongest
        return self._settled


def _strongest(map_: Tensor) -> Tensor:
    """The positions of the strongest pixels."""
    values = map_.abs().flatten()
    return values.topk(math.ceil(STRONGEST * len(values))).indices
