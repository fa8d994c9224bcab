"""Draws maps where the server drew none: plainly, without a colormap, nothing smoothed.

A map is divided by the percentile of its absolute values that the contract names for rendering;
what lies beyond gets the last colour.
"""

from collections.abc import Sequence
from io import BytesIO
from typing import Any, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from convlens.contract.rules import default_of
from convlens.v1 import explanation_pb2

Pixels: TypeAlias = NDArray[np.uint8]

PERCENTILE = float(
    cast(str, default_of(explanation_pb2.Rendering.DESCRIPTOR.fields_by_name["percentile"]))
)
# Pictures smaller than this are shown with larger pixels.
SMALL = 128
GAP = 2


def drawn(values: NDArray[Any], sign: str = "non_negative", scale: float | None = None) -> Pixels:
    """A map [height, width] or [height, width, channels] as RGB pixels [height, width, 3].

    "non_negative" goes from black to white. "signed" is white at 0, red above and blue below; its
    channels are added first. "reconstruction" is grey at 0, lighter above and darker below. Three
    channels are shown as colour, other numbers of them by their mean. `scale` is the value that
    gets the last colour.
    """
    shares = values.astype(np.float64)
    if shares.ndim == 3:
        shares = _three_or_none(shares, signed=sign == "signed")
    shares = np.clip(shares / (scale or scale_of(shares)), -1, 1)
    if sign == "signed":
        colors = np.stack([_faded(-shares), _faded(np.abs(shares)), _faded(shares)], axis=-1)
    else:
        colors = (shares + 1) / 2 if sign == "reconstruction" else np.clip(shares, 0, 1)
    if colors.ndim == 2:
        colors = np.repeat(colors[:, :, None], 3, axis=2)
    return np.round(colors * 255).astype(np.uint8)


def montage(pictures: Sequence[Pixels]) -> Pixels:
    """Pictures [height, width, 3] in a grid, row by row, each in a cell of the largest size."""
    columns = int(np.ceil(np.sqrt(len(pictures))))
    rows = -(-len(pictures) // columns)
    height = max(picture.shape[0] for picture in pictures) + GAP
    width = max(picture.shape[1] for picture in pictures) + GAP
    sheet = np.full((rows * height - GAP, columns * width - GAP, 3), 255, np.uint8)
    for number, picture in enumerate(pictures):
        top, left = number // columns * height, number % columns * width
        sheet[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    return sheet


def enlarged(pixels: Pixels, least: int = SMALL) -> Pixels:
    """A small picture with every pixel as a square, at least so large; others as they are."""
    factor = -(-least // max(pixels.shape[:2]))
    return pixels.repeat(factor, axis=0).repeat(factor, axis=1)


def pixels_of(png: bytes) -> Pixels:
    """The RGB pixels of a picture in a file's bytes."""
    from PIL import Image

    with Image.open(BytesIO(png)) as image:
        return np.asarray(image.convert("RGB"))


def png_of(pixels: Pixels) -> bytes:
    """The picture as a PNG."""
    from PIL import Image

    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def scale_of(shares: NDArray[np.float64]) -> float:
    """The absolute value that gets the last colour, above 0; servers take the same one."""
    if not shares.size:
        return 1.0
    strengths = np.abs(shares)
    return float(np.percentile(strengths, PERCENTILE)) or float(strengths.max()) or 1.0


def _three_or_none(shares: NDArray[np.float64], *, signed: bool) -> NDArray[np.float64]:
    if signed:
        return shares.sum(axis=2)
    return shares if shares.shape[2] == 3 else shares.mean(axis=2)


def _faded(shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 where there is nothing, 0 at full strength."""
    return 1 - np.clip(shares, 0, 1)
