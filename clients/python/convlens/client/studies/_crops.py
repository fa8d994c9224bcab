"""Crops of a picture at several scales, made here as a network's own input is made."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convlens.client._errors import InvalidRequest
from convlens.client._results import InputGeometry
from convlens.client.studies._input_pixels import pixels_of, resized
from convlens.client.studies._reading import whole

# How many crops of a picture there may be: its middle, or Krizhevsky's ten.
CROPS = (1, 10)
#: Which of the crops is the middle.
MIDDLE = {1: 0, 10: 4}


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
    picture whose shorter side `resize` has brought to the scale. Raises ConvLensError where
    the file is no picture.
    """
    picture = whole(path)
    made: list[NDArray[np.uint8]] = []
    for scale in scales:
        pixels = pixels_of(resized(picture, shorter(scale, taken), taken), taken)
        made += _cut(pixels, taken.height, taken.width, crops)
    return made


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
