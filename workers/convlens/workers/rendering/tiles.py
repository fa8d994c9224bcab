"""Draws single planes of a layer, large enough to be seen."""

from math import ceil, sqrt
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from convlens.v1 import explanation_pb2
from convlens.workers.rendering.colors import greys
from convlens.workers.rendering.drawing import planes_of, png_of
from convlens.workers.rendering.ink import Ink, finite, ink_for

Array: TypeAlias = NDArray[Any]

# Pixels on the longer side of a single plane, at least, of all planes of a filter, about, and those
# between two of these.
TILE = 128
SHEET = 256
GAP = 2
WHITE = 255


def draw_plane(
    values: Array,
    sign: explanation_pb2.MapSign.ValueType,
    rendering: explanation_pb2.Rendering,
    limit: float | None = None,
) -> bytes:
    """An activation map [h, w] or a patch [h, w, 1 or 3] as a PNG, every number as a square.

    The longer side has TILE pixels or more. `limit` is the value that gets the last colour, for a
    scale that several share; without it, `rendering` says how it is found.
    """
    values = planes_of(values)
    ink = ink_for(values, sign, rendering, limit)
    return png_of(ink.image(_enlarged(ink.shades(ink.levels(values)), TILE)))


def draw_filter(weights: Array, *, sees_pixels: bool, limit: float | None = None) -> bytes:
    """The weights [planes, h, w] of a filter as a PNG, around middle grey, which is no weight.

    Three planes that see pixels are one tile in colour; others are grey, side by side in reading
    order. `limit` is the weight that is white, by default the filter's own largest.
    """
    weights = finite(weights)
    limit = limit or float(np.abs(weights).max()) or 1.0
    if sees_pixels and len(weights) == 3:
        ink = Ink(limit, True, None)
        colors = ink.shades(ink.levels(np.moveaxis(weights, 0, -1)))
        return png_of(ink.image(_enlarged(colors, TILE)))
    ink = Ink(limit, True, greys())
    return png_of(ink.image(_sheet(ink.shades(ink.levels(weights)), ink.beside), WHITE))


def _sheet(planes: NDArray[np.uint8], gap: int) -> NDArray[np.uint8]:
    """Planes [n, h, w] as one picture, about as wide as it is high."""
    count, height, width = planes.shape
    columns = ceil(sqrt(count * height / width))
    rows = ceil(count / columns)
    least = max(SHEET // max(rows, columns), 1)
    cells = [_enlarged(plane, least) for plane in planes]
    down, across = cells[0].shape[0] + GAP, cells[0].shape[1] + GAP
    sheet = np.full((rows * down - GAP, columns * across - GAP), gap, np.uint8)
    for number, cell in enumerate(cells):
        top, left = number // columns * down, number % columns * across
        sheet[top : top + down - GAP, left : left + across - GAP] = cell
    return sheet


def _enlarged(shades: NDArray[np.uint8], least: int) -> NDArray[np.uint8]:
    """Every number as a square, so large that the longer side has `least` pixels or more."""
    factor = ceil(least / max(shades.shape[:2]))
    return shades.repeat(factor, axis=0).repeat(factor, axis=1)
