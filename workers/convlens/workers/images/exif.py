"""The one thing that EXIF says about pixels: which way up they are."""

import struct

ORIENTATION = 0x0112
PREFIX = b"Exif\0\0"


def orientation_of(exif: bytes) -> int:
    """The orientation, 1 to 8; 1 (upright) where none is given or the data are damaged."""
    tiff = exif.removeprefix(PREFIX)
    try:
        value = _find(tiff, "<" if tiff.startswith(b"II") else ">")
    except struct.error:
        return 1
    return value if 1 <= value <= 8 else 1


def _find(tiff: bytes, order: str) -> int:
    (directory,) = struct.unpack_from(order + "I", tiff, 4)
    (count,) = struct.unpack_from(order + "H", tiff, directory)
    for index in range(count):
        tag, _, _, value = struct.unpack_from(order + "HHIH", tiff, directory + 2 + 12 * index)
        if tag == ORIENTATION:
            return int(value)
    return 1
