"""Crops of a picture at several scales, made here as a network's own input is made."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from convlens.client._errors import ImageFileError, InvalidRequest
from convlens.client._results import InputGeometry
from convlens.client._text import shown

# How many crops of a picture there may be: its middle, or Krizhevsky's ten.
CROPS = (1, 10)
#: Which of the crops is the middle.
MIDDLE = {1: 0, 10: 4}
FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "nearest": Image.Resampling.NEAREST,
}


def check_scales(scales: Sequence[float], taken: InputGeometry, network: str) -> None:
    """Raises InvalidRequest where a crop would reach beyond the picture, or there is no scale."""
    if not scales:
        raise InvalidRequest("No scale is given; 1 is the network's own.")
    least = max(taken.height, taken.width)
    for scale in scales:
        if not (np.isfinite(scale) and shorter(scale, taken) >= least):
            raise InvalidRequest(
                f"The scale {scale:g} is too small for {network}, which takes {taken.height} x "
                f"{taken.width} pixels of a picture resized to {taken.resize}; the least is "
                f"{np.ceil(1000 * least / taken.resize) / 1000:g}."
            )
    if len(set(scales)) < len(scales):
        raise InvalidRequest("A scale is given twice; give each once.")


def shorter(scale: float, taken: InputGeometry) -> int:
    """The shorter side of a picture at that scale, in pixels; at 1 it is the network's own."""
    return round(scale * taken.resize)


def crops_of(
    path: Path, taken: InputGeometry, scales: Sequence[float], crops: int
) -> list[NDArray[np.uint8]]:
    """The crops of a picture at each scale, one scale after the other.

    Each is [height, width, channels], as torchvision's `center_crop` or `ten_crop` makes it of the
    picture whose shorter side `resize` has brought to the scale. Raises ImageFileError where the
    file is no picture.
    """
    picture = opened(path, grey=taken.channels == 1)
    made: list[NDArray[np.uint8]] = []
    for scale in scales:
        resized = np.asarray(_resized(picture, shorter(scale, taken), taken.interpolation))
        pixels = resized[:, :, None] if resized.ndim == 2 else resized
        made += _cut(pixels, taken.height, taken.width, crops)
    return made


def opened(path: Path, *, grey: bool = False) -> Image.Image:
    """The picture upright, in mode RGB or L, what shines through white; as the server reads it."""
    try:
        with Image.open(path) as file:
            picture = ImageOps.exif_transpose(file)
            if picture.mode == "I;16":
                picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
            if picture.has_transparency_data:
                shown_through = picture.convert("RGBA")
                picture = Image.new("RGB", picture.size, "white")
                picture.paste(shown_through, mask=shown_through)
            return picture.convert("L" if grey else "RGB")
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        words = "it is no picture" if isinstance(error, UnidentifiedImageError) else str(error)
        raise ImageFileError(f"The image cannot be read: {shown(path)}: {words}.") from error
    except Image.DecompressionBombError as error:
        raise ImageFileError(f"The image cannot be read: {shown(path)}: {error}") from error


def _resized(picture: Image.Image, short: int, interpolation: str) -> Image.Image:
    """The shorter side as given, the longer one cut to whole pixels as torchvision does."""
    width, height = picture.size
    long = int(short * max(width, height) / min(width, height))
    size = (short, long) if height > width else (long, short)
    return picture if picture.size == size else picture.resize(size, FILTERS[interpolation])


def _cut(pixels: NDArray[Any], height: int, width: int, crops: int) -> list[NDArray[Any]]:
    bottom, right = pixels.shape[0] - height, pixels.shape[1] - width
    middle = (round(bottom / 2), round(right / 2))
    corners = [(0, 0), (0, right), (bottom, 0), (bottom, right)]
    places = [middle] if crops == 1 else [*corners, middle]
    # The mirrored picture has its own corners; its crops are those of the picture, mirrored.
    sides = [pixels] if crops == 1 else [pixels, pixels[:, ::-1]]
    return [
        np.ascontiguousarray(side[top : top + height, left : left + width])
        for side in sides
        for top, left in places
    ]
