"""What windows along one axis of a picture change along the same axis of a map."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from convlens.workers.anatomy.windows import Window

Places = NDArray[np.int64]


@dataclass(frozen=True)
class Band:
    """For each of some windows the places from `first` to before `stop` of a map of `size`.

    Patches of all of them have the same `length`, so that one near the border holds places beside
    it that do not change.
    """

    size: int
    first: Places
    stop: Places

    @staticmethod
    def of(spans: Sequence[range], size: int) -> "Band":
        """The windows themselves, over a picture of so many pixels."""
        first, stop = (np.array([getattr(s, end) for s in spans]) for end in ("start", "stop"))
        return Band(size, first, stop)

    @cached_property
    def length(self) -> int:
        """Places of a patch."""
        return int((self.stop - self.first).max())

    @cached_property
    def starts(self) -> Places:
        """The first place of each patch; those at the border are shifted inward."""
        return np.minimum(self.first, self.size - self.length)

    @property
    def is_whole(self) -> bool:
        """Whether patches are the whole map."""
        return self.length == self.size

    def through(self, window: Window, size: int) -> "Band":
        """What changes in a map of `size` whose units see these places through a window.

        A unit at least, also where windows leave out the places that change.
        """
        first = -((window.extent - 1 - window.before - self.first) // window.stride)
        stop = (self.stop - 1 + window.before) // window.stride + 1
        first = first.clip(0, size - 1)
        return Band(size, first, np.maximum(stop.clip(1, size), first + 1))

    def joined(self, other: "Band") -> "Band":
        """What changes where two maps are laid over each other."""
        first, stop = np.minimum(self.first, other.first), np.maximum(self.stop, other.stop)
        return Band(self.size, first, stop)

    def moved(self, before: int, size: int) -> "Band":
        """The same places behind so many more, in a map of `size`."""
        return Band(size, self.first + before, self.stop + before)

    def middle(self, share: float) -> "Band":
        """The middle of what changes, so much of its width; at least a place."""
        if share >= 1:
            return self
        width = self.stop - self.first
        kept = np.ceil(share * width).astype(np.int64)
        first = self.first + (width - kept) // 2
        return Band(self.size, first, first + kept)
