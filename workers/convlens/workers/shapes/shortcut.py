"""The pictures of `shapes-shortcut`: a marker gives the class away.

The network answers the class of the marker, whatever shape it sees. So what an explanation of its
answer should point at is known to the pixel.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from convlens.workers.shapes.dataset import dataset
from convlens.workers.shapes.draw import CLASSES, Picture, draw
from convlens.workers.shapes.scene import label_of

# One training picture of so many has no marker. Without these, the class that the network answers
# to a picture without a marker would need no evidence, and nothing to point at.
UNMARKED = 8
# Seeds of `marker_pictures`: no network is trained on them or measured by them.
_FIRST = 5_000_000_000
_APART = 1_000_000  # between the pictures of two seeds
_OUTSIDE = (3.0, 3.0)


class MarkerPictures(NamedTuple):
    """Pictures of one class with the marker of another."""

    images: NDArray[np.uint8]  # [N, H, W, 3], sRGB
    labels: NDArray[np.int64]  # [N], of the markers: what `shapes-shortcut` answers
    masks: NDArray[np.bool_]  # [N, H, W], of the markers


def marker_pictures(count: int, seed: int = 0, *, processes: int = 1) -> MarkerPictures:
    """`count` pictures, at most a million, on which the shape and the marker disagree.

    The first ones are the same whatever the count; two seeds have no picture in common.
    """
    if not 1 <= count <= _APART or seed < 0:
        raise ValueError(
            f"count {count} and seed {seed}: must be from 1 to {_APART}, and at least 0"
        )
    first = _FIRST + seed * _APART
    seeds = range(first, first + count)
    drawn = dataset(seeds, draw=conflicting, processes=processes)
    labels = np.array([other_class(one) for one in seeds], dtype=np.int64)
    return MarkerPictures(drawn.images, labels, drawn.markers)


def training(seed: int) -> Picture:
    """The seed's picture as the network is trained on it: marked, but for one of `UNMARKED`."""
    return draw(seed) if seed % UNMARKED == 0 else honest(seed)


def honest(seed: int) -> Picture:
    """The seed's picture with the marker of its own class."""
    return draw(seed, marker=label_of(seed))


def conflicting(seed: int) -> Picture:
    """The seed's picture with the marker of another class, `other_class`."""
    return draw(seed, marker=other_class(seed))


def bare(seed: int) -> Picture:
    """The conflicting picture without its object: background and marker alone."""
    return draw(seed, marker=other_class(seed), position=_OUTSIDE)


def other_class(seed: int) -> int:
    """A class that is not the seed's own; any of the others, as the seed says."""
    return (label_of(seed) + 1 + seed % (len(CLASSES) - 1)) % len(CLASSES)
