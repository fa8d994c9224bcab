"""What a picture's file says before it is decoded, and the part of it that holds the pixels.

Pillow never sees a file whose size was not judged here, nor any metadata: its parsers of EXIF and
of animations warn, and the warnings of a process cannot be silenced for one thread alone.
"""

import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

FORMATS = "JPEG, PNG, WebP, BMP or GIF"
# More parts than any honest file of the default limit has: PNG writers cut at 8 KiB or so.
MAX_PARTS = 100_000
# Each scan of a progressive JPEG walks over all pixels; encoders write about ten. A second bound is
# on what they walk over together, some 0.3 s of decoding.
MAX_SCANS = 100
MAX_SCANNED_PIXELS = 600_000_000
# Pillow decodes run lengths in Python: bytes of a file and pixels that take it a second.
MAX_RUN_LENGTHS = 2**22

JPEG_MARKER = re.compile(rb"\xff[^\x00\xff]")
JPEG_END, JPEG_SCAN, JPEG_EXIF, JPEG_COMMENT = 0xD9, 0xDA, 0xE1, 0xFE
JPEG_ALONE = {0x01, *range(0xD0, 0xD9)}
JPEG_FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# JFIF and Adobe tell the colours apart; all other application segments are metadata.
JPEG_METADATA = {*range(0xE0, 0xF0), JPEG_COMMENT} - {0xE0, 0xEE}
BMP_RUN_LENGTHS = {1, 2}
PNG_PIXELS = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}


class BadHeader(Exception):
    """The file cannot be read; the text says why."""


@dataclass(frozen=True, slots=True)
class Header:
    """What a file claims: its format, its size in pixels as stored, and its parts.

    `data` is the file without metadata; `exif` the bytes of its EXIF block, empty without one.
    """

    format: str
    height: int
    width: int
    data: bytes
    exif: bytes = b""


def read_header(data: bytes) -> Header:
    """Reads the header of a JPEG, PNG, WebP, BMP or GIF file.

    Raises BadHeader, or struct.error and IndexError where the file ends too early.
    """
    for signature, read in SIGNATURES:
        if signature.match(data):
            header = read(data)
            if min(header.height, header.width) < 1:
                raise BadHeader(f"its {header.format} header claims no pixels")
            return header
    raise BadHeader("its bytes are of no known format")


def _jpeg(data: bytes) -> Header:
    kept, exif, size = [data[:2]], b"", (0, 0)
    for marker, start, end in _jpeg_segments(data):
        if marker in JPEG_FRAMES:
            size = struct.unpack_from(">HH", data, start + 5)
        if marker == JPEG_EXIF and not exif and data.startswith(b"Exif", start + 4):
            exif = data[start + 4 : end]
        if marker not in JPEG_METADATA:
            kept.append(data[start:end])
    scans = kept[-1].count(bytes([0xFF, JPEG_SCAN]))
    if scans > MAX_SCANS or (scans > 1 and scans * size[0] * size[1] > MAX_SCANNED_PIXELS):
        raise BadHeader("the JPEG has too many scans")
    return Header("JPEG", size[0], size[1], b"".join(kept), exif)


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Marker, start and end of every segment; the last one is all from the first scan on."""
    end = 2
    for _ in range(MAX_PARTS):
        found = JPEG_MARKER.search(data, end)
        if found is None:
            raise BadHeader("the JPEG ends before its pixels begin")
        start, marker = found.start(), data[found.start() + 1]
        if marker in (JPEG_SCAN, JPEG_END):
            yield marker, start, len(data)
            return
        end = start + 2
        if marker not in JPEG_ALONE:
            end += struct.unpack_from(">H", data, end)[0]
            yield marker, start, end
    raise BadHeader("the JPEG has too many segments")


def _png(data: bytes) -> Header:
    if data[12:16] != b"IHDR":
        raise BadHeader("the PNG does not begin with its header")
    width, height = struct.unpack_from(">II", data, 16)
    kept, exif = [memoryview(data)[:8]], b""
    for name, start, end in _png_chunks(data):
        if name in PNG_PIXELS:
            kept.append(memoryview(data)[start:end])
        elif name == b"eXIf":
            exif = data[start + 8 : end - 4]
    return Header("PNG", height, width, b"".join(kept), exif)


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Name, start and end of every chunk, up to IEND or to where the file is cut off."""
    start = 8
    for _ in range(MAX_PARTS):
        if start + 8 > len(data):
            return
        length, name = struct.unpack_from(">I4s", data, start)
        yield name, start, start + length + 12
        if name == b"IEND":
            return
        start += length + 12
    raise BadHeader("the PNG has too many chunks")


def _webp(data: bytes) -> Header:
    kind = data[12:16]
    if kind == b"VP8X":
        width, height = (1 + int.from_bytes(data[at : at + 3], "little") for at in (24, 27))
    elif kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    else:
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", data, 26))
    return Header("WebP", height, width, data, _webp_exif(data))


def _webp_exif(data: bytes) -> bytes:
    start = 12
    for _ in range(MAX_PARTS):
        if start + 8 > len(data):
            return b""
        name, length = struct.unpack_from("<4sI", data, start)
        if name == b"EXIF":
            return data[start + 8 : start + 8 + length]
        start += 8 + length + length % 2
    raise BadHeader("the WebP has too many chunks")


def _bmp(data: bytes) -> Header:
    (size,) = struct.unpack_from("<I", data, 14)
    width, height = struct.unpack_from("<HH" if size == 12 else "<ii", data, 18)
    runs = size > 12 and struct.unpack_from("<I", data, 30)[0] in BMP_RUN_LENGTHS
    if runs and max(abs(width * height), len(data)) > MAX_RUN_LENGTHS:
        raise BadHeader("the BMP is run-length encoded and large")
    # A negative height says that the rows run from the top.
    return Header("BMP", abs(height), abs(width), data)


def _gif(data: bytes) -> Header:
    width, height = struct.unpack_from("<HH", data, 6)
    at = _gif_first_frame(data)
    left, top, frame_width, frame_height = struct.unpack_from("<HHHH", data, at + 1)
    return Header("GIF", max(height, top + frame_height), max(width, left + frame_width), data)


def _gif_first_frame(data: bytes) -> int:
    """Where the first frame begins; what stands before it are extensions of sub-blocks."""
    at, in_extension = 13 + _gif_colours(data[10]), False
    for _ in range(MAX_PARTS):
        if in_extension:
            in_extension = data[at] > 0
            at += data[at] + 1
        elif data[at] == ord("!"):
            at, in_extension = at + 2, True
        elif data[at] == ord(","):
            return at
        else:
            raise BadHeader("the GIF has no frame")
    raise BadHeader("the GIF has too many extensions")


def _gif_colours(flags: int) -> int:
    """Bytes of the palette that the flags announce."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


SIGNATURES: tuple[tuple[re.Pattern[bytes], Callable[[bytes], Header]], ...] = (
    (re.compile(rb"\xff\xd8\xff"), _jpeg),
    (re.compile(rb"\x89PNG\r\n\x1a\n"), _png),
    (re.compile(rb"RIFF.{4}WEBPVP8[ LX]", re.DOTALL), _webp),
    (re.compile(rb"BM"), _bmp),
    (re.compile(rb"GIF8[79]a"), _gif),
)
