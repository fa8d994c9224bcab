"""Brings a picture to the size of a network's input here, as the service does."""

import warnings
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.ImageOps import exif_transpose

from convlens.client._errors import ConvLensError, InvalidImage, local
from convlens.client._images import read_file
from convlens.client._results import InputGeometry
from convlens.contract import ErrorReason, Failure

READ, SAID = ("JPEG", "PNG", "WEBP", "BMP", "GIF"), "JPEG, PNG, WebP, BMP or GIF"
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
    "as_is" it has the answer that its file has. Raises InvalidImage where it cannot be read.
    """
    data = read_file(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(BytesIO(data), formats=READ) as opened:
                image = _flat(exif_transpose(opened))
    # Decoders raise whatever a damaged file leads them to, down to MemoryError.
    except Exception as error:
        raise _unreadable(str(error) or type(error).__name__) from error
    return _fitted(image, input)


def _flat(image: Image.Image) -> Image.Image:
    """To mode L or RGB: 16 bits keep their upper 8, what is transparent lies over white."""
    if image.mode == "I;16":
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        above = image.convert("RGBA")
        white = Image.new("RGB", image.size, "white")
        white.paste(above, mask=above)
        return white
    return image.convert("L" if image.mode in ("1", "L") else "RGB")


def _fitted(image: Image.Image, input: InputGeometry) -> NDArray[np.uint8]:
    """Resized and cropped; each half is rounded as torchvision rounds it."""
    width, height = image.size
    long = int(input.resize * max(height, width) / min(height, width))
    size = (input.resize, long) if height > width else (long, input.resize)
    if size[0] * size[1] > MOST_PIXELS:
        raise _unreadable(f"{width} x {height} pixels are too far from a square to be moved about")
    if input.channels == 1:
        image = image.convert("L")
    if size != image.size:
        image = image.resize(size, FILTERS[input.interpolation])
    left, top = _centre(size[0], input.width), _centre(size[1], input.height)
    image = image.crop((left, top, left + input.width, top + input.height))
    pixels = np.asarray(image if input.channels == 1 else image.convert("RGB"))
    return pixels.reshape(input.height, input.width, input.channels)


def _centre(side: int, crop: int) -> int:
    return round((side - crop) / 2) if side >= crop else -((crop - side) // 2)


def _unreadable(detail: str) -> ConvLensError:
    reason = ErrorReason.ERROR_REASON_IMAGE_UNREADABLE
    return local(InvalidImage, Failure(reason, detail=detail, formats=SAID))
