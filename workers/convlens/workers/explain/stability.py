"""When a map that improves is good enough: its strongest pixels stay the same."""

import math

import torch
from torch import Tensor

from convlens.workers.explain.found import Found
from convlens.workers.runner import Key

STRONGEST = 0.05


class Stability:
    """Compares the strongest pixels of a map each time that its samples have doubled.

    What it says depends on the map's own history alone, never on the clock.
    """

    def __init__(self, share: float) -> None:
        self._share = share
        self._before: dict[Key, tuple[int, Tensor]] = {}

    def has_settled(self, key: Key, found: Found) -> bool:
        """Whether the asked share of the strongest pixels was among them with half the samples."""
        if found.map is None:
            return False
        samples, before = self._before.get(key, (0, None))
        if found.samples < 2 * samples:
            return False
        strongest = _strongest(found.map)
        self._before[key] = found.samples, strongest
        if before is None:
            return False
        kept = int(torch.isin(strongest, before).sum())
        return kept >= self._share * len(strongest)


def _strongest(map_: Tensor) -> Tensor:
    """The positions of the strongest pixels."""
    values = map_.abs().flatten()
    return values.topk(math.ceil(STRONGEST * len(values))).indices
