"""Brings maps of a network's input back onto the picture as it was sent."""

from dataclasses import dataclass
from math import ceil, floor
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convlens.v1 import explanation_pb2

Array: TypeAlias = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Span:
    """Along one axis, the pixels of a canvas that a map covers, and the part of it that they show.

    The pixels are those from `start` to before `stop`, at least one. `low` and `high` are fractions
    of the map's length, below 0 or above 1 where the outer pixels are covered in part.
    """

    start: int
    stop: int
    low: float
    high: float

    @classmethod
    def of(cls, low: float, high: float, size: int, canvas: int) -> "Span":
        """A map from `low` to `high` of a picture of `size` pixels, drawn with `canvas` pixels.

        A pixel is covered where its centre is; where none is, the one that the map begins in.
        """
        scale = canvas / size
        start = max(ceil(low * scale - 0.5), 0)
        stop = min(ceil(high * scale - 0.5), canvas)
        if stop <= start:
            start = min(max(floor(low * scale), 0), canvas - 1)
            stop = start + 1
        first, last = (start / scale - low) / (high - low), (stop / scale - low) / (high - low)
        if stop == start + 1:
            # A single pixel may be far larger than the map.
            first, last = max(first, 0.0), min(last, 1.0)
        return cls(start, stop, first, last)

    def margin(self, length: int) -> int:
        """How many numbers of a map of `length` numbers are missing at its ends at most."""
        return ceil(max(-self.low, self.high - 1, 0) * length)


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a map lies on a canvas of `height` x `width` pixels."""

    height: int
    width: int
    rows: Span
    columns: Span

    @classmethod
    def everywhere(cls, height: int, width: int) -> "Placement":
        """A map that covers all of the canvas."""
        return cls(height, width, Span(0, height, 0, 1), Span(0, width, 0, 1))

    @classmethod
    def on_original(
        cls, geometry: explanation_pb2.MapGeometry, longest: int | None = None
    ) -> "Placement":
        """A map on its original picture, which is made smaller where a side is above `longest`."""
        size = geometry.original_height, geometry.original_width
        height, width = fitted(*size, longest) if longest else size
        crop = geometry.crop
        rows = Span.of(crop.top, crop.bottom, size[0], height)
        return cls(height, width, rows, Span.of(crop.left, crop.right, size[1], width))

    @property
    def window(self) -> tuple[slice, slice]:
        """The rows and columns of the canvas that the map covers."""
        return slice(self.rows.start, self.rows.stop), slice(self.columns.start, self.columns.stop)

    def spread(self, values: Array) -> Array:
        """What a map [h, w], uint8 or float32, shows in the window: bilinear, without aliasing."""
        height, width = values.shape
        above, beside = self.rows.margin(height), self.columns.margin(width)
        box = (
            self.columns.low * width + beside,
            self.rows.low * height + above,
            self.columns.high * width + beside,
            self.rows.high * height + above,
        )
        if above or beside:
            values = np.pad(values, ((above, above), (beside, beside)), "edge")
        size = (self.columns.stop - self.columns.start, self.rows.stop - self.rows.start)
        if (*size, *box) == (width, height, 0, 0, width, height):
            return values
        return np.asarray(Image.fromarray(values).resize(size, Image.Resampling.BILINEAR, box))


def fitted(height: int, width: int, longest: int) -> tuple[int, int]:
    """The size of a picture whose longer side is at most `longest` pixels, in its proportions."""
    scale = min(longest / max(height, width), 1)
    return max(round(height * scale), 1), max(round(width * scale), 1)
