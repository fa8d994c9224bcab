"""Draws maps, alone or over their picture."""

from io import BytesIO
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convlens.v1 import explanation_pb2
from convlens.workers.images import Pixels
from convlens.workers.images.placement import Placement, fitted
from convlens.workers.rendering.ink import UNSEEN, Ink, finite, ink_for
from convlens.workers.rendering.pictures import image_of, resized

Array: TypeAlias = NDArray[Any]

# Of a drawing, in pixels. Maps have a few hundred numbers on a side, so more would show no more of
# them, and 64 overlays of this size fit into one message.
LONGEST = 1024
# Of PNGs: above it a few percent are saved for several times the time.
COMPRESSION = 3


def draw(
    values: Array,
    sign: explanation_pb2.MapSign.ValueType,
    rendering: explanation_pb2.Rendering,
    picture: Pixels,
    geometry: explanation_pb2.MapGeometry,
) -> bytes:
    """A map [h, w] or [h, w, 1 or 3] as a PNG: a heat map, or laid over the picture.

    With `rendering.original_size`, `picture` is the original and the drawing has its size, at most
    LONGEST pixels on a side; what lies outside of the crop, and the network did not see, is dark
    grey, or the picture under twice as much of it. Without it, `picture` is the network's input and
    the drawing has its size. Under a map the picture is without colour, so that every colour is the
    map's. Maps with three channels are drawn as colours, around middle grey where they have signs.

    All of `rendering` is filled in and has passed `check_rendering`. Heat maps come with a palette.
    """
    values = planes_of(values)
    ink = ink_for(values, sign, rendering)
    place = (
        Placement.on_original(geometry, LONGEST)
        if rendering.original_size
        else Placement.everywhere(*fitted(picture.height, picture.width, LONGEST))
    )
    image = ink.image(_on_canvas(ink, values, place))
    if rendering.style == explanation_pb2.RENDERING_STYLE_OVERLAY:
        under = _faded_outside(_grey(picture, image.size), place, rendering.opacity)
        image = Image.blend(under.convert("RGB"), image.convert("RGB"), rendering.opacity)
    return png_of(image)


def planes_of(values: Array) -> NDArray[np.float64]:
    """A map as [h, w] or [h, w, 3] in double precision."""
    values = finite(values)
    return values[:, :, 0] if values.ndim == 3 and values.shape[2] == 1 else values


def png_of(image: Image.Image) -> bytes:
    """The picture as a PNG."""
    buffer = BytesIO()
    image.save(buffer, "PNG", compress_level=COMPRESSION)
    return buffer.getvalue()


def _on_canvas(ink: Ink, values: Array, place: Placement) -> NDArray[np.uint8]:
    """The shades of a canvas; values beyond the scale are cut first, so that they do not spread."""
    levels = ink.levels(values)
    shades = np.full((place.height, place.width, *values.shape[2:]), ink.beside, np.uint8)
    spread = (
        place.spread(levels)
        if levels.ndim == 2
        else np.stack([place.spread(plane) for plane in np.moveaxis(levels, -1, 0)], axis=-1)
    )
    shades[place.window] = ink.shades(spread)
    return shades


def _grey(picture: Pixels, size: tuple[int, int]) -> Image.Image:
    """A picture without its colours, in mode L, at a size (width, height)."""
    return resized(image_of(picture), size).convert("L")


def _faded_outside(grey: Image.Image, place: Placement, opacity: float) -> Image.Image:
    """What the map does not cover, under as much dark grey as it will get once more."""
    rows, columns = place.window
    faded = Image.blend(grey, Image.new("L", grey.size, UNSEEN), opacity)
    seen = grey.crop((columns.start, rows.start, columns.stop, rows.stop))
    faded.paste(seen, (columns.start, rows.start))
    return faded
