"""What the numbers of a map are drawn with."""

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convlens.v1 import explanation_pb2
from convlens.workers.rendering.colors import SHADES, Colors, colors_of, greys

Array: TypeAlias = NDArray[Any]

NON_NEGATIVE = explanation_pb2.MAP_SIGN_NON_NEGATIVE
SIGNED = explanation_pb2.MAP_SIGN_SIGNED
RECONSTRUCTION = explanation_pb2.MAP_SIGN_RECONSTRUCTION
# What the network did not see is dark grey, which neither nothing nor any default colour is.
UNSEEN = 96


@dataclass(frozen=True, slots=True, eq=False)
class Ink:
    """How numbers become colours: `limit` gets the last one.

    `colors` is absent where the numbers are colours themselves, around middle grey if `is_centred`.
    """

    limit: float
    is_centred: bool
    colors: Colors | None

    def levels(self, values: Array) -> NDArray[np.float32]:
        """Numbers as float32 in [0, 1], from the first colour to the last."""
        shares = np.clip(values, -self.limit, self.limit) / self.limit
        levels = (shares + 1) / 2 if self.is_centred else np.clip(shares, 0, 1)
        return levels.astype(np.float32)

    def shades(self, levels: Array) -> NDArray[np.uint8]:
        """Levels in [0, 1] as numbers of colours, or as colours themselves."""
        steps = SHADES - 1 if self.colors else 255
        return (levels * np.float32(steps) + np.float32(0.5)).astype(np.uint8)

    @property
    def beside(self) -> int:
        """The shade of what the map does not cover."""
        return SHADES if self.colors else UNSEEN

    def image(self, shades: NDArray[np.uint8], beside: int = UNSEEN) -> Image.Image:
        """The picture of shades [h, w], with a palette, or [h, w, 3], in RGB.

        `beside` is the grey of the shade that stands beside the colours.
        """
        image = Image.fromarray(shades)
        if self.colors:
            image.putpalette(self.colors.table.tobytes() + bytes([beside] * 3))
        return image


def ink_for(
    values: Array,
    sign: explanation_pb2.MapSign.ValueType,
    rendering: explanation_pb2.Rendering,
    limit: float | None = None,
) -> Ink:
    """What a map [h, w] or [h, w, 3] is drawn with, by default to its own scale.

    Raises UnknownColormap.
    """
    limit = limit or limit_of(values, rendering)
    if values.ndim == 3:
        return Ink(limit, sign != NON_NEGATIVE, None)
    is_grey = sign == RECONSTRUCTION
    colors = greys() if is_grey else colors_of(rendering.colormap, signed=sign == SIGNED)
    return Ink(limit, colors.is_centred, colors)


def limit_of(values: Array, rendering: explanation_pb2.Rendering) -> float:
    """The absolute value that gets the last colour, above 0.

    A percentile that is 0 gives way to the largest value, and a map of zeros gets 1.
    """
    if rendering.scale == explanation_pb2.COLOR_SCALE_FIXED:
        return rendering.maximum
    strengths = np.abs(finite(values))
    return float(np.percentile(strengths, rendering.percentile)) or float(strengths.max()) or 1.0


def finite(values: Array) -> NDArray[np.float64]:
    """Numbers in double precision, NaN as 0, and infinity as what still can be added up."""
    return np.nan_to_num(values.astype(np.float64), posinf=1e300, neginf=-1e300)
