"""Brings a picture to the size of a network's input here, as the service does."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convlens.client._results import InputGeometry
from convlens.client.studies._reading import unreadable, whole

FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "nearest": Image.Resampling.NEAREST,
}
# Pixels of a whole resized picture: one of a single row would take gigabytes.
MOST_PIXELS = 2**24


def input_pixels(path: Path, input: InputGeometry) -> NDArray[np.uint8]:
    """The picture [height, width, channels] as the network takes it, in 8 bits.

    Upright, alpha over white, the shorter side resized, the centre cropped: sent with the geometry
    "as_is" it has the answer that its file has. Raises ConvLensError where it cannot be read.
    """
    image = resized(whole(path), input.resize, input)
    left, top = (
        _centre(side, crop)
        for side, crop in zip(image.size, (input.width, input.height), strict=True)
    )
    return pixels_of(image.crop((left, top, left + input.width, top + input.height)), input)


def resized(image: Image.Image, short: int, input: InputGeometry) -> Image.Image:
    """With the shorter side as given; the longer one is cut to whole pixels as torchvision does."""
    width, height = image.size
    long = int(short * max(height, width) / min(height, width))
    size = (short, long) if height > width else (long, short)
    if size[0] * size[1] > MOST_PIXELS:
        raise unreadable(f"{width} x {height} pixels are too far from a square to be cut here")
    if input.channels == 1:
        image = image.convert("L")
    return image if size == image.size else image.resize(size, FILTERS[input.interpolation])


def pixels_of(image: Image.Image, input: InputGeometry) -> NDArray[np.uint8]:
    """The pixels [height, width, channels] in as many channels as the network takes."""
    pixels = np.asarray(image.convert("L" if input.channels == 1 else "RGB"))
    return pixels[:, :, None] if pixels.ndim == 2 else pixels


def _centre(side: int, crop: int) -> int:
    return round((side - crop) / 2) if side >= crop else -((crop - side) // 2)
