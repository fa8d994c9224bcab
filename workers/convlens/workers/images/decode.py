"""From the bytes of a file to 8-bit pixels: upright, grey or RGB, without alpha."""

import io

import numpy as np
from PIL import Image
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.Image import Transpose
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from convlens.contract import ErrorReason, Failure
from convlens.v1 import network_pb2
from convlens.workers.images.exif import orientation_of
from convlens.workers.images.headers import FORMATS, BadHeader, Header, read_header
from convlens.workers.images.limits import Limits

# The classes themselves: Image.open would try other formats (MPO for a JPEG) and warn at a size.
PLUGINS: dict[str, type[ImageFile]] = {
    "JPEG": JpegImageFile,
    "PNG": PngImageFile,
    "WebP": WebPImageFile,
    "BMP": BmpImageFile,
    "GIF": GifImageFile,
}
UPRIGHT = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}


def decode(data: bytes, limits: Limits, input: network_pb2.InputGeometry) -> Image.Image:
    """Decodes a file to a Pillow image of mode L or RGB.

    16 bits keep their upper 8, alpha is laid over white, EXIF orientation is applied, of an
    animation the first frame is taken; colour profiles are ignored, as torchvision does.
    Raises Failure: IMAGE_TOO_LARGE before anything is decoded, or IMAGE_UNREADABLE.
    """
    limits.check_bytes(len(data), input)
    header = _header(data)
    limits.check_size(header.height, header.width, input)
    try:
        return _turn(_flatten(_load(header)), orientation_of(header.exif))
    # Decoders raise whatever a damaged file leads them to, down to MemoryError.
    except Exception as error:
        damage = str(error) or type(error).__name__
        raise _unreadable(f"the {header.format} is damaged or cut off ({damage})") from error


def _header(data: bytes) -> Header:
    try:
        return read_header(data)
    except BadHeader as error:
        raise _unreadable(str(error)) from error
    except Exception as error:
        raise _unreadable("the file ends within its header") from error


def _load(header: Header) -> ImageFile:
    picture = PLUGINS[header.format](io.BytesIO(header.data))
    # What is decoded must be what was judged.
    if picture.size != (header.width, header.height):
        raise ValueError("its header contradicts itself")
    if header.format == "PNG":
        _scale_key(picture, depth=header.data[24])
    picture.load()
    return picture


def _scale_key(picture: ImageFile, depth: int) -> None:
    """Brings a PNG's transparent colour to 8 bits, as Pillow does with the pixels alone."""
    key = picture.info.get("transparency")
    if picture.mode == "L" and depth < 8 and key is not None:
        picture.info["transparency"] = key * (255 // (2**depth - 1))
    if picture.mode == "RGB" and depth == 16 and key is not None:
        picture.info["transparency"] = tuple(value >> 8 for value in key)


def _flatten(picture: ImageFile) -> Image.Image:
    """To mode L or RGB, what shines through white."""
    if picture.mode == "I;16":
        return _upper_bits(picture)
    if picture.has_transparency_data:
        return _over_white(picture.convert("RGBA"))
    wanted = "L" if picture.mode in ("1", "L") else "RGB"
    return picture if picture.mode == wanted else picture.convert(wanted)


def _upper_bits(picture: ImageFile) -> Image.Image:
    values = np.asarray(picture)
    grey = (values >> 8).astype(np.uint8)
    key = picture.info.get("transparency")
    return Image.fromarray(grey if key is None else np.where(values == key, np.uint8(255), grey))


def _over_white(picture: Image.Image) -> Image.Image:
    white = Image.new("RGB", picture.size, "white")
    white.paste(picture, mask=picture)
    return white


def _turn(picture: Image.Image, orientation: int) -> Image.Image:
    return picture if orientation == 1 else picture.transpose(UPRIGHT[orientation])


def _unreadable(detail: str) -> Failure:
    return Failure(ErrorReason.ERROR_REASON_IMAGE_UNREADABLE, detail=detail, formats=FORMATS)
