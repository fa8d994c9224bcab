"""The marker: a small chequerboard near a corner of the picture, whose colours stand for a class.

Each class has two of five colours, so that no colour alone gives the class away.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from convlens.workers.shapes.tones import Tone

Floats: TypeAlias = NDArray[np.floating[Any]]

GRID = 128  # the marker is laid out in these parts of the picture's side: pixels of the default
SIDE = 16
CELL = 4
INSETS = (2, 6)  # least and most between the marker and the picture's edges
COLOURS: dict[str, Tone] = {
    "yellow": (1.0, 0.85, 0.0),
    "white": (1.0, 1.0, 1.0),
    "red": (0.95, 0.05, 0.05),
    "green": (0.0, 0.75, 0.1),
    "blue": (0.1, 0.2, 1.0),
}
# In the order of CLASSES.
CODES: tuple[tuple[str, str], ...] = tuple(combinations(COLOURS, 2))


@dataclass(frozen=True)
class Marker:
    """A marker in numbers."""

    label: int  # index into CLASSES
    left: int  # in parts of the GRID
    top: int


def random_place(rng: np.random.Generator) -> tuple[int, int]:
    """Left and top of a marker near any of the four corners."""
    inset = rng.integers(INSETS[0], INSETS[1] + 1, 2)
    left, top = np.where(rng.random(2) < 0.5, inset, GRID - SIDE - inset)
    return int(left), int(top)


def stick(marker: Marker, pixels: Floats) -> NDArray[np.bool_]:
    """Lay the marker over square pixels [size, size, 3], sRGB in 0..1, in place.

    Returns the pixels [size, size] that it covers: those whose centre it covers.
    """
    size = pixels.shape[0]
    centres = (np.arange(size, dtype=np.float64) + 0.5) * (GRID / size)
    y, x = (centres - marker.top)[:, None], centres - marker.left
    mask = (y >= 0) & (y < SIDE) & (x >= 0) & (x < SIDE)
    second = (y // CELL + x // CELL) % 2 == 1
    first_tone, second_tone = (COLOURS[name] for name in CODES[marker.label])
    pixels[mask & ~second] = first_tone
    pixels[mask & second] = second_tone
    return mask
