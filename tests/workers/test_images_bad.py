"""Pictures that cannot be read end in a failure of the catalogue, whatever their bytes."""

from __future__ import annotations

import io
import struct
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from convlens.contract.errors import reason_name
from convlens.v1 import image_pb2, tensor_pb2
from convlens.workers.images import Limits, Pixels

from .image_files import (
    FORMATS,
    claiming,
    encode,
    failure_of,
    little_memory,
    noise,
    outcome_of,
    png,
    png_chunk,
    read_array,
    smooth,
    tensor_image,
    with_segment,
)

KNOWN = "JPEG, PNG, WebP, BMP or GIF"
SMALL = Limits(encoded_bytes=100_000, pixels=100_000, side=2_000)
FILES = {format: encode(smooth(24, 31), format) for format in FORMATS}
# The kinds of file whose decoding takes ways of its own.
MORE_FILES = {
    "progressive JPEG": encode(smooth(24, 31), "JPEG", progressive=True),
    "JPEG with EXIF": encode(smooth(24, 31), "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0"),
    "CMYK JPEG": encode(Image.new("CMYK", (9, 9)), "JPEG"),
    "lossless WebP": encode(Image.fromarray(noise(9, 9, 4), "RGBA"), "WEBP", lossless=True),
    "animated WebP": encode(
        Image.new("RGB", (9, 9)), "WEBP", save_all=True, append_images=[Image.new("L", (9, 9), 9)]
    ),
    "palette PNG": encode(Image.new("P", (9, 9)), "PNG", transparency=b"\0\1\2"),
    "16-bit PNG": encode(Image.fromarray(np.arange(81, dtype=np.uint16).reshape(9, 9)), "PNG"),
    "keyed PNG": png((1, 2), 16, 2, bytes(13), (b"tRNS", bytes(6))),
    "animated GIF": encode(
        Image.new("RGB", (9, 9)), "GIF", save_all=True, append_images=[Image.new("L", (9, 9), 9)]
    ),
    "palette BMP": encode(Image.fromarray(smooth(9, 9)).quantize(8), "BMP"),
}
ALL_FILES = {**FILES, **MORE_FILES}


def tensor(dtype: int, shape: list[int], data: bytes) -> image_pb2.Image:
    """An image of a tensor as it is, right or wrong."""
    return image_pb2.Image(
        tensor=tensor_pb2.Tensor(dtype=tensor_pb2.DataType.ValueType(dtype), shape=shape, data=data)
    )


@pytest.mark.parametrize(
    "image",
    [
        image_pb2.Image(),
        image_pb2.Image(encoded=b""),
        image_pb2.Image(tensor=tensor_pb2.Tensor()),
        image_pb2.Image(tensor=tensor_pb2.Tensor(dtype=tensor_pb2.DATA_TYPE_UINT8)),
    ],
)
def test_nothing_in_it(image: image_pb2.Image) -> None:
    failure = failure_of(image)
    assert reason_name(failure.reason) == "IMAGE_EMPTY"
    assert failure.metadata == {"formats": KNOWN}


UNKNOWN = {
    "one byte": b"\xff",
    "a text": b"hello, this is no picture\n" * 40,
    "zeros": bytes(1000),
    "a page": b"<html><body>404 Not Found</body></html>",
    "a signature cut off": b"\x89PNG\r\n\x1a",
    "RIFF of sound": b"RIFF\x24\0\0\0WAVEfmt ",
}


@pytest.mark.parametrize("case", UNKNOWN)
def test_bytes_of_no_picture(case: str) -> None:
    failure = failure_of(UNKNOWN[case])
    assert reason_name(failure.reason) == "IMAGE_UNREADABLE"
    assert failure.metadata == {"detail": "its bytes are of no known format", "formats": KNOWN}


@pytest.mark.parametrize("format", ["TIFF", "PPM", "ICO", "TGA", "PCX", "EPS", "JPEG2000", "DDS"])
def test_other_formats_of_pillow_are_not_opened(format: str) -> None:
    file = encode(smooth(16, 16), format)
    assert Image.open(io.BytesIO(file)).format == format
    assert failure_of(file).metadata["detail"] == "its bytes are of no known format"


@pytest.mark.parametrize("case", ALL_FILES)
def test_half_a_file_is_refused(case: str) -> None:
    whole = ALL_FILES[case]
    # Of an animation only the first frame is read.
    end = len(whole) // (4 if "animated" in case else 2)
    failure = failure_of(whole[:end])
    assert reason_name(failure.reason) == "IMAGE_UNREADABLE"
    assert failure.metadata["formats"] == KNOWN
    assert not ImageFile.LOAD_TRUNCATED_IMAGES


def test_what_a_cut_file_is_told() -> None:
    text = str(failure_of(FILES["JPEG"][:-100]))
    assert text.startswith("The image cannot be read: the JPEG is damaged or cut off (")
    assert text.endswith("). Send a whole picture as JPEG, PNG, WebP, BMP or GIF.")


@pytest.mark.parametrize("case", ALL_FILES)
def test_every_length_ends_in_pixels_or_a_failure(case: str) -> None:
    whole = ALL_FILES[case]
    for end in range(0, len(whole), max(1, len(whole) // 150)):
        outcome_of(whole[:end], SMALL)


def run_lengths(side: int, runs: bytes) -> bytes:
    """A grey BMP of `side` x `side` pixels, run-length encoded."""
    palette = b"".join(bytes([value, value, value, 0]) for value in range(256))
    header = struct.pack("<IiiHHIIiiII", 40, side, side, 1, 8, 1, len(runs), 0, 0, 256, 0)
    return struct.pack("<2sIHHI", b"BM", 0, 0, 0, 54 + 1024) + header + palette + runs


REFUSED = {
    "no pixels in a PNG": (png((0, 5), 8, 2, b""), "its PNG header claims no pixels"),
    "no pixels in a JPEG": (claiming("JPEG", 0), "its JPEG header claims no pixels"),
    "a PNG without its header": (
        b"\x89PNG\r\n\x1a\n" + png_chunk(b"IDAT", bytes(20)),
        "the PNG does not begin with its header",
    ),
    "a JPEG without a scan": (FILES["JPEG"][:300], "the JPEG ends before its pixels begin"),
    "a PNG's signature": (FILES["PNG"][:16], "the file ends within its header"),
    "a JPEG of zeros": (b"\xff\xd8\xff" + bytes(50), "the JPEG ends before its pixels begin"),
    "a GIF without a frame": (FILES["GIF"][:13] + b";" * 2000, "the GIF has no frame"),
    "endless segments": (b"\xff\xd8" + b"\xff\xe1\0\2" * 200_000, "the JPEG has too many segments"),
    "endless chunks": (
        FILES["PNG"][:33] + png_chunk(b"tEXt", b"") * 200_000,
        "the PNG has too many chunks",
    ),
    "endless parts": (
        FILES["WEBP"][:12] + struct.pack("<4sI", b"VP8X", 0) * 200_000,
        "the WebP has too many chunks",
    ),
    "endless scans": (
        FILES["JPEG"][:-2] + FILES["JPEG"][FILES["JPEG"].index(b"\xff\xda") : -2] * 100,
        "the JPEG has too many scans",
    ),
    "endless runs": (
        run_lengths(10, b"\1\7" * 2**21),
        "the BMP is run-length encoded and large",
    ),
    "runs of many pixels": (run_lengths(3_000, b""), "the BMP is run-length encoded and large"),
    "an endless extension": (
        FILES["GIF"][:10] + bytes(3) + b"!\xfe" + b"\1a" * 200_000,
        "the GIF has too many extensions",
    ),
    "endless extensions": (
        FILES["GIF"][:10] + bytes(3) + b"!\xfe\0" * 200_000,
        "the GIF has too many extensions",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_headers_that_make_no_sense(case: str) -> None:
    file, detail = REFUSED[case]
    failure = failure_of(file)
    assert reason_name(failure.reason) == "IMAGE_UNREADABLE"
    assert failure.metadata["detail"] == detail


def test_a_small_bmp_of_run_lengths() -> None:
    assert (read_array(run_lengths(3, b"\3\7\0\0" * 3 + b"\0\1")) == 7).all()


def test_a_header_that_contradicts_itself() -> None:
    file = FILES["PNG"]
    second = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 500, 500, 8, 2, 0, 0, 0))
    failure = failure_of(file[:33] + second + file[33:])
    assert reason_name(failure.reason) == "IMAGE_UNREADABLE"
    assert "contradicts itself" in failure.metadata["detail"]


@pytest.mark.parametrize("side", [50, 60_000])
@pytest.mark.parametrize("format", FORMATS)
def test_size_is_refused_before_decoding(format: str, side: int) -> None:
    if (format, side) == ("WEBP", 60_000):
        side = 16_000
    failure = failure_of(claiming(format, side), Limits(pixels=49 * 50, side=16_384))
    assert reason_name(failure.reason) == "IMAGE_TOO_LARGE"
    assert failure.metadata == {
        "detail": f"it has {side} x {side} pixels (height x width)",
        "limit": "2450 pixels in all and 16384 on a side",
        "input": "224 x 224",
    }


def test_the_limits_themselves_are_allowed() -> None:
    file = FILES["PNG"]
    exact = Limits(encoded_bytes=len(file), pixels=24 * 31, side=31)
    assert isinstance(outcome_of(file, exact), Pixels)
    for tight in (
        Limits(encoded_bytes=len(file) - 1),
        Limits(pixels=24 * 31 - 1),
        Limits(side=30),
    ):
        assert reason_name(failure_of(file, tight).reason) == "IMAGE_TOO_LARGE"


def test_a_file_of_too_many_bytes() -> None:
    failure = failure_of(bytes(1001), Limits(encoded_bytes=1000))
    assert reason_name(failure.reason) == "IMAGE_TOO_LARGE"
    assert failure.metadata == {
        "detail": "its file has 1001 bytes",
        "limit": "1000 bytes",
        "input": "224 x 224",
    }


def test_limits_above_those_of_pillow_are_ours_to_set() -> None:
    # Pillow warns above 89 million pixels; the picture of one colour is small as a file.
    limits = Limits(pixels=100_000_000)
    row = b"\0" + bytes(10_000 // 8)
    file = png((9_500, 10_000), 1, 0, row * 9_500)
    assert Image.MAX_IMAGE_PIXELS is not None and Image.MAX_IMAGE_PIXELS < 9_500 * 10_000
    outcome = outcome_of(file, limits)
    assert isinstance(outcome, Pixels) and outcome.width == 10_000


def test_a_png_of_60000_x_60000_takes_no_memory() -> None:
    file = claiming("PNG", 60_000)
    tracemalloc.start()
    with little_memory():
        failure = failure_of(file)
        boundless = failure_of(file, Limits(pixels=2**40, side=2**20))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert reason_name(failure.reason) == "IMAGE_TOO_LARGE"
    assert failure.metadata["detail"] == "it has 60000 x 60000 pixels (height x width)"
    assert peak < 2**20
    # Without the limits the same file needs more memory than there is.
    assert boundless.metadata["detail"] == "the PNG is damaged or cut off (MemoryError)"


UINT8, FLOAT32 = int(tensor_pb2.DATA_TYPE_UINT8), int(tensor_pb2.DATA_TYPE_FLOAT32)
BAD_TENSORS = {
    "no dtype": (tensor(0, [1, 1, 3], b"abc"), "its dtype is DATA_TYPE_UNSPECIFIED"),
    "half": (tensor(2, [1, 1, 3], bytes(6)), "its dtype is DATA_TYPE_FLOAT16"),
    "int64": (tensor(4, [1, 1, 3], bytes(24)), "its dtype is DATA_TYPE_INT64"),
    "a dtype of tomorrow": (tensor(77, [1, 1, 3], b"abc"), "its dtype is 77"),
    "no shape": (tensor(UINT8, [], b"abc"), "its shape is []"),
    "two dimensions": (tensor(UINT8, [1, 3], b"abc"), "its shape is [1, 3]"),
    "a batch": (tensor(UINT8, [1, 1, 1, 3], b"abc"), "its shape is [1, 1, 1, 3]"),
    "channels first": (tensor(UINT8, [3, 2, 2], bytes(12)), "its shape is [3, 2, 2]"),
    "four channels": (tensor(UINT8, [1, 1, 4], b"abcd"), "its shape is [1, 1, 4]"),
    "no rows": (tensor(UINT8, [0, 5, 3], b""), "its shape is [0, 5, 3]"),
    "negative": (tensor(UINT8, [-1, -1, 3], b"abc"), "its shape is [-1, -1, 3]"),
    "too few bytes": (
        tensor(UINT8, [2, 2, 3], bytes(11)),
        "it has 11 bytes where shape [2, 2, 3] takes 12",
    ),
    "too many bytes": (
        tensor(FLOAT32, [2, 2, 1], bytes(17)),
        "it has 17 bytes where shape [2, 2, 1] takes 16",
    ),
    "no bytes": (tensor(UINT8, [2, 2, 3], b""), "it has 0 bytes where shape [2, 2, 3] takes 12"),
    "float bytes of uint8": (
        tensor(FLOAT32, [2, 2, 3], bytes(12)),
        "it has 12 bytes where shape [2, 2, 3] takes 48",
    ),
}


@pytest.mark.parametrize("case", BAD_TENSORS)
def test_tensors_that_contradict_themselves(case: str) -> None:
    image, detail = BAD_TENSORS[case]
    failure = failure_of(image)
    assert reason_name(failure.reason) == "TENSOR_INVALID"
    assert failure.metadata["detail"] == detail


@pytest.mark.parametrize(
    ("value", "detail"),
    [
        (float("nan"), "it holds NaN or infinite values"),
        (float("inf"), "it holds NaN or infinite values"),
        (float("-inf"), "it holds NaN or infinite values"),
        (255.0, "its values go from 0.5 to 255"),
        (-0.25, "its values go from -0.25 to 0.5"),
        (float(np.nextafter(np.float32(1), np.float32(2))), "its values go from 0.5 to 1"),
    ],
)
def test_floats_outside_0_and_1(value: float, detail: str) -> None:
    values = np.full((4, 5, 3), 0.5, np.float32)
    values[2, 3, 1] = value
    failure = failure_of(tensor_image(values))
    assert reason_name(failure.reason) == "TENSOR_INVALID"
    assert failure.metadata["detail"] == detail


@pytest.mark.parametrize("shape", [[60_000, 60_000, 3], [1, 20_000, 1], [2**62, 2**62, 3]])
def test_tensors_above_the_limits(shape: list[int]) -> None:
    failure = failure_of(tensor(UINT8, shape, b"abc"))
    assert reason_name(failure.reason) == "IMAGE_TOO_LARGE"
    claim = f"it has {shape[0]} x {shape[1]} pixels (height x width)"
    assert failure.metadata["detail"] == claim


SIGNATURES = [b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"GIF89a", b"RIFF0000WEBPVP8 "]
fuzz = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@fuzz
@given(signature=st.sampled_from(SIGNATURES), data=st.binary(max_size=400))
def test_random_bytes_end_in_pixels_or_a_failure(signature: bytes, data: bytes) -> None:
    outcome_of(signature + data, SMALL)


@settings(fuzz, max_examples=400)
@given(case=st.sampled_from(sorted(ALL_FILES)), data=st.data())
def test_mutated_files_end_in_pixels_or_a_failure(case: str, data: st.DataObject) -> None:
    file = bytearray(ALL_FILES[case])
    places = st.integers(0, len(file) - 1)
    # Most that can go wrong goes wrong in the header.
    near = st.integers(0, min(80, len(file) - 1))
    changes = st.lists(st.tuples(st.one_of(near, places), st.integers(0, 255)), max_size=8)
    for place, value in data.draw(changes):
        file[place] = value
    cut = data.draw(st.one_of(st.just(len(file)), places))
    outcome = outcome_of(bytes(file[:cut]), SMALL)
    if isinstance(outcome, Pixels):
        assert outcome.height * outcome.width <= SMALL.pixels


@fuzz
@given(
    name=st.sampled_from([b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"eXIf", b"acTL", b"iCCP", b"zTXt"]),
    body=st.binary(max_size=60),
    case=st.sampled_from(["PNG", "palette PNG", "16-bit PNG", "keyed PNG"]),
)
def test_strange_chunks_end_in_pixels_or_a_failure(name: bytes, body: bytes, case: str) -> None:
    file = ALL_FILES[case]
    outcome_of(file[:33] + png_chunk(name, body) + file[33:], SMALL)


@fuzz
@given(marker=st.integers(0, 255), body=st.binary(max_size=60))
def test_strange_segments_end_in_pixels_or_a_failure(marker: int, body: bytes) -> None:
    outcome_of(with_segment(FILES["JPEG"], marker, body), SMALL)


@fuzz
@given(
    dtype=st.integers(-1, 6),
    shape=st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(0, 4), max_size=8),
    data=st.binary(max_size=64),
)
def test_random_tensors_end_in_pixels_or_a_failure(
    dtype: int, shape: list[int], data: bytes
) -> None:
    outcome_of(tensor(dtype, shape, data), SMALL)


def test_many_threads_read_the_same_pixels() -> None:
    whole = list(ALL_FILES.values())
    alone = [read_array(file) for file in whole]
    cut = [file[: len(file) // 4] for file in whole]
    with ThreadPoolExecutor(8) as threads:
        for _ in range(10):
            together = threads.map(read_array, whole)
            failures = threads.map(failure_of, cut)
            assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))
            assert {reason_name(failure.reason) for failure in failures} == {"IMAGE_UNREADABLE"}
