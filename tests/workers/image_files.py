"""Picture files made for the tests, and the one way in which they are read."""

from __future__ import annotations

import io
import resource
import struct
import zlib
from collections.abc import Generator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import psutil
from PIL import Image

from convlens.contract import ErrorReason, Failure
from convlens.contract.errors import keys_of
from convlens.v1 import image_pb2, network_pb2, tensor_pb2
from convlens.workers.images import Limits, Pixels, read_image

Bytes = npt.NDArray[np.uint8]

INPUT = network_pb2.InputGeometry(
    height=224,
    width=224,
    channels=3,
    resize=256,
    interpolation=image_pb2.INTERPOLATION_BILINEAR,
)
OF_PICTURES = {
    ErrorReason.ERROR_REASON_IMAGE_EMPTY,
    ErrorReason.ERROR_REASON_IMAGE_UNREADABLE,
    ErrorReason.ERROR_REASON_IMAGE_TOO_LARGE,
    ErrorReason.ERROR_REASON_TENSOR_INVALID,
}
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF")


def read(data: bytes, limits: Limits | None = None) -> Pixels:
    """Reads the bytes of a file."""
    return read_image(image_pb2.Image(encoded=data), limits or Limits(), INPUT)


def read_array(data: bytes, limits: Limits | None = None) -> Bytes:
    """Reads the bytes of a file to uint8 [height, width] or [height, width, 3]."""
    values = read(data, limits).values
    assert isinstance(values, Image.Image) and values.mode in ("L", "RGB")
    return np.asarray(values)


def failure_of(image: image_pb2.Image | bytes, limits: Limits | None = None) -> Failure:
    """The failure of reading, with the metadata of its reason and a status that can be sent."""
    failure = outcome_of(image, limits or Limits())
    assert isinstance(failure, Failure)
    return failure


def outcome_of(image: image_pb2.Image | bytes, limits: Limits) -> Pixels | Failure:
    """What reading ends in: pixels, or a failure of the catalogue; anything else is raised."""
    message = image_pb2.Image(encoded=image) if isinstance(image, bytes) else image
    try:
        return read_image(message, limits, INPUT)
    except Failure as failure:
        assert failure.reason in OF_PICTURES
        assert list(failure.metadata) and set(failure.metadata) == set(keys_of(failure.reason))
        assert failure.status().SerializeToString()
        return failure


def tensor_image(values: npt.NDArray[np.generic]) -> image_pb2.Image:
    """An image of raw pixels, uint8 or float32."""
    dtype = {"uint8": tensor_pb2.DATA_TYPE_UINT8, "float32": tensor_pb2.DATA_TYPE_FLOAT32}
    tensor = tensor_pb2.Tensor(
        dtype=dtype[values.dtype.name], shape=values.shape, data=values.tobytes()
    )
    return image_pb2.Image(tensor=tensor)


def noise(*shape: int, seed: int = 0) -> Bytes:
    """Random bytes of a shape."""
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def smooth(height: int, width: int) -> Bytes:
    """A gentle RGB gradient that survives lossy formats, another along every axis."""
    y, x = np.mgrid[:height, :width]
    bands = [255 * y / height, 255 * x / width, 255 * (x + y) / (height + width)]
    return np.stack(bands, axis=2).astype(np.uint8)


def encode(picture: Image.Image | Bytes, format: str, **options: object) -> bytes:
    """Writes a picture as a file."""
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def png_chunk(name: bytes, data: bytes) -> bytes:
    """A chunk of a PNG file."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(
    size: tuple[int, int], depth: int, colour: int, rows: bytes, *more: tuple[bytes, bytes]
) -> bytes:
    """A PNG of (height, width), bit depth, colour type and raw rows, each with its filter byte."""
    header = struct.pack(">IIBBBBB", size[1], size[0], depth, colour, 0, 0, 0)
    chunks = ((b"IHDR", header), *more, (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks)


def with_segment(jpeg: bytes, marker: int, data: bytes) -> bytes:
    """A JPEG with one more segment at its beginning."""
    return jpeg[:2] + struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data + jpeg[2:]


def claiming(format: str, side: int) -> bytes:
    """A small file whose header claims `side` x `side` pixels."""
    file = bytearray(encode(smooth(8, 8), format))
    if format == "PNG":
        return png((side, side), 8, 2, bytes(25 * 8))
    if format == "JPEG":
        at = file.index(b"\xff\xc0") + 5
        file[at : at + 4] = struct.pack(">HH", side, side)
    elif format == "WEBP":
        vp8x = struct.pack("<4sII", b"VP8X", 10, 0) + 2 * (side - 1).to_bytes(3, "little")
        file[12:12] = vp8x
        file[4:8] = struct.pack("<I", len(file) - 8)
    elif format == "BMP":
        file[18:26] = struct.pack("<ii", side, side)
    else:
        file[6:10] = struct.pack("<HH", side, side)
    return bytes(file)


@contextmanager
def little_memory() -> Generator[None]:
    """At most 256 MiB more than now; what needs more gets a MemoryError."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    now = psutil.Process().memory_info().vms
    resource.setrlimit(resource.RLIMIT_AS, (now + 2**28, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
