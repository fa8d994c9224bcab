"""Outlines of the classes as signed distances, in a frame where each fits the unit disc.

x runs right and y down, so an unrotated arrow, heart or triangle points the way it is read.
Every function is negative inside, positive outside, and never larger in size than the true
distance to the outline: that is what lets the renderer skip pixels far from an edge.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Outline: TypeAlias = Callable[[Floats, Floats], Floats]

RING_HOLE = 0.58
CROSS_HALF_WIDTH = 0.3
STAR_INNER = 0.45
CRESCENT_SHIFT = 0.5
CRESCENT_BITE = 0.8
HEART_UNIT = 1.0 / 0.8918  # side of the heart's square once its enclosing circle is the unit one


def circle(x: Floats, y: Floats) -> Floats:
    """The unit disc."""
    return np.hypot(x, y) - 1.0


def ring(x: Floats, y: Floats) -> Floats:
    """The unit disc less a concentric one of radius `RING_HOLE`."""
    radius = np.hypot(x, y)
    return np.maximum(radius - 1.0, RING_HOLE - radius)


def _regular(corners: int, first: float) -> Outline:
    """The regular polygon in the unit circle, its first corner `first` radians from the top."""
    middles = first + (2 * np.arange(corners) + 1) * np.pi / corners
    normals = [(float(np.sin(a)), -float(np.cos(a))) for a in middles]
    apothem = float(np.cos(np.pi / corners))

    def polygon(x: Floats, y: Floats) -> Floats:
        furthest = normals[0][0] * x + normals[0][1] * y
        for nx, ny in normals[1:]:
            np.maximum(furthest, nx * x + ny * y, out=furthest)
        return furthest - apothem

    return polygon


def star(x: Floats, y: Floats) -> Floats:
    """The five-pointed star whose notches lie at radius `STAR_INNER`."""
    x, y = np.abs(x), -y
    # Two mirrors fold the five arms onto the upper right half of the top one.
    for angle, sign in ((np.pi / 5, 1.0), (np.pi / 5, -1.0)):
        nx, ny = sign * np.cos(angle), -np.sin(angle)
        over = 2.0 * np.maximum(nx * x + ny * y, 0.0)
        x, y = x - over * nx, y - over * ny
    x = np.abs(x)
    notch_x, notch_y = STAR_INNER * np.sin(np.pi / 5), STAR_INNER * np.cos(np.pi / 5)
    length = float(np.hypot(notch_x, 1.0 - notch_y))
    return (x * (1.0 - notch_y) + (y - 1.0) * notch_x) / length


def cross(x: Floats, y: Floats) -> Floats:
    """Two bars of half width `CROSS_HALF_WIDTH` at right angles, the corners on the unit circle."""
    arm = float(np.sqrt(1.0 - CROSS_HALF_WIDTH**2))
    x, y = np.abs(x), np.abs(y)
    upright = np.maximum(x - CROSS_HALF_WIDTH, y - arm)
    level = np.maximum(x - arm, y - CROSS_HALF_WIDTH)
    return np.minimum(upright, level)


def crescent(x: Floats, y: Floats) -> Floats:
    """The unit disc less one of radius `CRESCENT_BITE` moved right by `CRESCENT_SHIFT`."""
    bite = CRESCENT_BITE - np.hypot(x - CRESCENT_SHIFT, y)
    return np.maximum(np.hypot(x, y) - 1.0, bite)


def heart(x: Floats, y: Floats) -> Floats:
    """A square on its corner with a half disc on each of its upper sides."""
    x, y = np.abs(x), 1.0 - y  # the tip is the origin, at the bottom of the unit circle
    side = HEART_UNIT
    diagonal = side / np.sqrt(2.0)
    square = (x + np.abs(y - diagonal) - diagonal) / np.sqrt(2.0)
    lobe = np.hypot(x - diagonal / 2, y - 1.5 * diagonal) - side / 2
    return np.minimum(square, lobe)


def arrow(x: Floats, y: Floats) -> Floats:
    """An arrow pointing up: a triangular head on a straight shaft."""
    x = np.abs(x)
    # The head runs from the tip (0, -1) to the corners (0.8, -0.05); the shaft ends at y = 0.95.
    length = float(np.hypot(0.8, 0.95))
    head = np.maximum((0.95 * x - 0.8 * (y + 1.0)) / length, y + 0.05)
    shaft = np.maximum(x - 0.29, np.abs(y - 0.4) - 0.55)
    return np.minimum(head, shaft)


OUTLINES: dict[str, Outline] = {
    "circle": circle,
    "ring": ring,
    "triangle": _regular(3, 0.0),
    "square": _regular(4, np.pi / 4),
    "pentagon": _regular(5, 0.0),
    "star": star,
    "cross": cross,
    "crescent": crescent,
    "heart": heart,
    "arrow": arrow,
}
CLASSES: tuple[str, ...] = tuple(OUTLINES)
