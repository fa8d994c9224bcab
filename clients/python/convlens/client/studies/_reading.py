"""Reads pictures here as the service does: upright, on white, in 8 bits."""

import warnings
from collections.abc import Generator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.ImageOps import exif_transpose

from convlens.client._errors import ConvLensError, InvalidImage, local
from convlens.client._images import read_file
from convlens.contract import ErrorReason, Failure

READ, SAID = ("JPEG", "PNG", "WEBP", "BMP", "GIF"), "JPEG, PNG, WebP, BMP or GIF"


def whole(path: Path) -> Image.Image:
    """The picture in mode L or RGB; raises ConvLensError where it cannot be read."""
    data = read_file(path)
    try:
        with _strict(), Image.open(BytesIO(data), formats=READ) as file:
            return _flat(exif_transpose(file))
    # Decoders raise whatever a damaged file leads them to, down to MemoryError.
    except Exception as error:
        raise unreadable(str(error) or type(error).__name__) from error


def small(path: Path, longest: int) -> Image.Image | None:
    """The picture in RGB and no longer than that; None where it cannot be read any more."""
    try:
        with _strict(), Image.open(path) as file:
            # Of a JPEG, only as much is decoded as is needed.
            file.draft("RGB", (longest, longest))
            image = _flat(exif_transpose(file)).convert("RGB")
    except Exception:
        return None
    image.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    return image


def unreadable(detail: str) -> ConvLensError:
    """What the service says of a picture that it cannot read."""
    reason = ErrorReason.ERROR_REASON_IMAGE_UNREADABLE
    return local(InvalidImage, Failure(reason, detail=detail, formats=SAID))


@contextmanager
def _strict() -> Generator[None, None, None]:
    """What is so large that Pillow warns of it is not read."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def _flat(image: Image.Image) -> Image.Image:
    """To mode L or RGB: 16 bits keep their upper 8, what is transparent lies over white."""
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        above = image.convert("RGBA")
        white = Image.new("RGB", image.size, "white")
        white.paste(above, mask=above)
        return white
    return image.convert("L" if image.mode in ("1", "L") else "RGB")
