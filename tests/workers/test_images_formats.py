"""Every format and mode that a worker reads."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import Image, ImageOps
from PIL.Image import Transpose

from convlens.v1 import image_pb2
from convlens.workers.images import Limits, read_image

from .image_files import (
    INPUT,
    encode,
    noise,
    png,
    png_chunk,
    read,
    read_array,
    smooth,
    tensor_image,
    with_segment,
)

PICTURE = smooth(24, 31)
WHITE = 255
TURNS = {
    1: None,
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_90,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_270,
}


def exif_of(orientation: int, order: str = "<") -> bytes:
    """An EXIF block that holds an orientation alone."""
    mark = b"II*\0" if order == "<" else b"MM\0*"
    entry = struct.pack(order + "HHIHH", 0x0112, 3, 1, orientation, 0)
    return mark + struct.pack(order + "IH", 8, 1) + entry + bytes(4)


@pytest.mark.parametrize("format", ["PNG", "BMP"])
def test_lossless_formats_keep_every_byte(format: str) -> None:
    picture = noise(13, 7, 3)
    assert np.array_equal(read_array(encode(picture, format)), picture)


def test_lossless_webp_keeps_every_byte() -> None:
    picture = noise(13, 7, 3)
    assert np.array_equal(read_array(encode(picture, "WEBP", lossless=True)), picture)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
def test_jpeg_equals_pillow(options: dict[str, object]) -> None:
    file = encode(PICTURE, "JPEG", **options)
    assert np.array_equal(read_array(file), np.asarray(Image.open(io.BytesIO(file))))


def test_lossy_webp_equals_pillow() -> None:
    file = encode(PICTURE, "WEBP")
    assert np.array_equal(read_array(file), np.asarray(Image.open(io.BytesIO(file))))


@pytest.mark.parametrize("format", ["JPEG", "PNG", "BMP"])
def test_grey_stays_one_band(format: str) -> None:
    picture = smooth(24, 31)[:, :, 0]
    got = read_array(encode(picture, format)).astype(int)
    assert got.shape == (24, 31)
    assert np.abs(got - picture).max() <= (3 if format == "JPEG" else 0)


@pytest.mark.parametrize("format", ["PNG", "BMP"])
def test_one_bit(format: str) -> None:
    bits = noise(9, 17) > 127
    assert np.array_equal(read_array(encode(Image.fromarray(bits), format)), bits * WHITE)


def test_palettes_become_colours() -> None:
    picture = Image.fromarray(PICTURE).quantize(16)
    colours = np.asarray(picture.convert("RGB"))
    for format in ("PNG", "BMP", "GIF"):
        assert np.array_equal(read_array(encode(picture, format)), colours)


def test_first_frame_of_an_animated_gif() -> None:
    frames = [Image.new("RGB", (6, 4), colour) for colour in ("red", "lime", "blue")]
    file = encode(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=50)
    assert (read_array(file) == (255, 0, 0)).all()


def test_first_frame_of_an_animated_webp() -> None:
    frames = [Image.new("RGB", (6, 4), colour) for colour in ("red", "lime")]
    options = {"save_all": True, "append_images": frames[1:], "lossless": True}
    assert (read_array(encode(frames[0], "WEBP", **options)) == (255, 0, 0)).all()


def test_default_image_of_an_animated_png() -> None:
    frames = [Image.new("RGB", (6, 4), colour) for colour in ("red", "lime")]
    file = encode(frames[0], "PNG", save_all=True, append_images=frames[1:])
    assert b"acTL" in file
    assert (read_array(file) == (255, 0, 0)).all()


def test_transparent_gif_lies_over_white() -> None:
    picture = Image.new("P", (4, 2), 1)
    picture.putpalette([0, 0, 0, 200, 0, 0])
    picture.putpixel((0, 0), 0)
    got = read_array(encode(picture, "GIF", transparency=0))
    assert tuple(got[0, 0]) == (WHITE, WHITE, WHITE)
    assert tuple(got[1, 3]) == (200, 0, 0)


def test_gif_whose_frame_is_larger_than_its_screen() -> None:
    file = bytearray(encode(PICTURE[:, :, 0], "GIF"))
    file[6:10] = struct.pack("<HH", 1, 1)
    assert np.array_equal(read_array(bytes(file)), PICTURE[:, :, [0, 0, 0]])


def test_16_bit_grey_keeps_the_upper_8() -> None:
    values = np.random.default_rng(0).integers(0, 2**16, (11, 5), dtype=np.uint16)
    assert np.array_equal(read_array(encode(Image.fromarray(values), "PNG")), values >> 8)


def rows_of_16_bits(values: np.ndarray) -> bytes:
    """Rows of a PNG, each after the filter byte of "none"."""
    return b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)


def test_16_bit_rgb_keeps_the_upper_8() -> None:
    values = np.random.default_rng(0).integers(0, 2**16, (11, 5, 3), dtype=np.uint16)
    got = read_array(png((11, 5), 16, 2, rows_of_16_bits(values)))
    assert np.array_equal(got, values >> 8)


@pytest.mark.parametrize(("colour", "channels"), [(4, 2), (6, 4)])
def test_16_bit_alpha_lies_over_white(colour: int, channels: int) -> None:
    values = np.full((2, 3, channels), 0x2000, np.uint16)
    values[0, :, -1], values[1, :, -1] = 0, 0xFFFF
    got = read_array(png((2, 3), 16, colour, rows_of_16_bits(values)))
    assert (got[0] == WHITE).all() and (got[1] == 0x20).all()


def over_white(colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """What shines through: exact, in real numbers."""
    share = alpha.astype(float)[..., None] / 255
    return colour * share + 255 * (1 - share)


@pytest.mark.parametrize("format", ["PNG", "WEBP"])
def test_alpha_lies_over_white(format: str) -> None:
    picture = noise(16, 16, 4)
    lossless = {"lossless": True, "exact": True} if format == "WEBP" else {}
    got = read_array(encode(Image.fromarray(picture, "RGBA"), format, **lossless))
    assert np.abs(got - over_white(picture[..., :3], picture[..., 3])).max() <= 1


def test_grey_with_alpha_lies_over_white() -> None:
    picture = noise(16, 16, 2)
    got = read_array(encode(Image.fromarray(picture, "LA"), "PNG"))
    assert np.abs(got - over_white(picture[..., :1], picture[..., 1])).max() <= 1


def test_bmp_with_a_mask_for_alpha_lies_over_white() -> None:
    picture = noise(6, 5, 4)
    masks = struct.pack("<IIII", 0xFF, 0xFF00, 0xFF0000, 0xFF000000)
    header = struct.pack("<IiiHHIIiiII", 108, 5, -6, 1, 32, 3, 0, 0, 0, 0, 0) + masks + bytes(52)
    file = struct.pack("<2sIHHI", b"BM", 122 + picture.size, 0, 0, 122) + header
    got = read_array(file + picture.tobytes())
    assert np.abs(got - over_white(picture[..., :3], picture[..., 3])).max() <= 1


@pytest.mark.parametrize("alphas", [bytes([0, 128, 255]), bytes([255, 0]), bytes([0, 255, 7])])
def test_palette_with_transparency_lies_over_white(alphas: bytes) -> None:
    picture = Image.fromarray(noise(8, 8) % 3, "P")
    colours = [10, 20, 30, 40, 50, 60, 70, 80, 90]
    picture.putpalette(colours)
    alpha = np.array([*alphas, 255, 255])[np.asarray(picture)]
    colour = np.array(colours).reshape(3, 3)[np.asarray(picture)]
    got = read_array(encode(picture, "PNG", transparency=alphas))
    assert np.abs(got - over_white(colour, alpha)).max() <= 1


KEYED = {
    "1 bit": ((1, 2), 1, 0, bytes([0, 0b10000000]), [1], [WHITE, 0]),
    "2 bits": ((1, 2), 2, 0, bytes([0, 0b10010000]), [2], [WHITE, 85]),
    "4 bits": ((1, 2), 4, 0, bytes([0, 0x3C]), [3], [WHITE, 0xCC]),
    "8 bits": ((1, 2), 8, 0, bytes([0, 9, 10]), [9], [WHITE, 10]),
    "16 bits": ((1, 2), 16, 0, bytes([0, 9, 1, 9, 2]), [0x0901], [WHITE, 9]),
    "8 bits RGB": ((1, 2), 8, 2, bytes([0, 1, 2, 3, 4, 4, 4]), [1, 2, 3], [WHITE, 4]),
    "16 bits RGB": (
        (1, 2),
        16,
        2,
        bytes([0, 1, 5, 2, 5, 3, 5, *[4] * 6]),
        [0x105, 0x205, 0x305],
        [WHITE, 4],
    ),
}


@pytest.mark.parametrize("case", KEYED)
def test_png_with_one_transparent_colour_lies_over_white(case: str) -> None:
    size, depth, colour, rows, key, expected = KEYED[case]
    transparent = struct.pack(f">{len(key)}H", *key)
    got = read_array(png(size, depth, colour, rows, (b"tRNS", transparent)))
    bands = got.reshape(1, 2, -1)
    assert (bands[0, 0] == expected[0]).all() and (bands[0, 1] == expected[1]).all()


def test_cmyk_jpeg() -> None:
    ink = np.zeros((16, 16, 4), np.uint8)
    ink[:, :8, 0] = 255
    got = read_array(encode(Image.fromarray(ink, "CMYK"), "JPEG", quality=95)).astype(int)
    assert np.abs(got[:, 2:6] - (0, 255, 255)).max() < 8
    assert np.abs(got[:, 10:14] - 255).max() < 8


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("order", ["<", ">"])
def test_exif_orientation_of_a_png(orientation: int, order: str) -> None:
    # Stored turned by the inverse, the picture must come out upright.
    turn = TURNS[orientation]
    upright = Image.fromarray(PICTURE)
    stored = upright if turn is None else upright.transpose(turn)
    file = encode(stored, "PNG", exif=exif_of(orientation, order))
    assert np.array_equal(read_array(file), PICTURE)


@pytest.mark.parametrize("format", ["JPEG", "WEBP"])
@pytest.mark.parametrize("orientation", TURNS)
def test_exif_orientation_as_pillow_sees_it(format: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = encode(PICTURE, format, exif=exif)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(file)))
    assert np.array_equal(read_array(file), np.asarray(expected))
    assert read(file).height == (31 if orientation > 4 else 24)


DAMAGED_EXIF = {
    "empty": b"",
    "cut off": exif_of(6)[:12],
    "no such orientation": exif_of(9),
    "points outside": b"II*\0" + struct.pack("<I", 2**31),
    "too many entries": exif_of(6)[:8] + struct.pack("<H", 2**16 - 1),
    "random": noise(200).tobytes(),
}


@pytest.mark.parametrize("case", DAMAGED_EXIF)
def test_damaged_exif_is_passed_over_in_silence(case: str) -> None:
    exif = DAMAGED_EXIF[case]
    jpeg = encode(PICTURE, "JPEG")
    got = read_array(with_segment(jpeg, 0xE1, b"Exif\0\0" + exif))
    assert np.array_equal(got, read_array(jpeg))
    file = encode(PICTURE, "PNG")
    assert np.array_equal(read_array(file[:33] + png_chunk(b"eXIf", exif) + file[33:]), PICTURE)


def test_other_metadata_is_passed_over_in_silence() -> None:
    jpeg = encode(PICTURE, "JPEG", icc_profile=bytes(500), comment=b"hello")
    # A second picture in the file (MPO), announced in a damaged way.
    file = with_segment(jpeg, 0xE2, b"MPF\0" + b"II*\0" + bytes(6))
    assert np.array_equal(read_array(file), np.asarray(Image.open(io.BytesIO(jpeg))))
    text = encode(PICTURE, "PNG")
    bad = png_chunk(b"zTXt", b"a\0\0not zlib") + png_chunk(b"acTL", bytes(8)) * 2
    assert np.array_equal(read_array(text[:33] + bad + text[33:]), PICTURE)


def test_fill_bytes_and_junk_between_segments_of_a_jpeg() -> None:
    jpeg = encode(PICTURE, "JPEG")
    assert np.array_equal(read_array(jpeg[:2] + b"\xff\xff\xff" + jpeg[2:]), read_array(jpeg))
    app0 = 4 + int.from_bytes(jpeg[4:6], "big")
    assert np.array_equal(read_array(jpeg[:app0] + b"\0\1\2" + jpeg[app0:]), read_array(jpeg))


def test_bmp_from_the_top() -> None:
    file = bytearray(encode(PICTURE, "BMP"))
    file[22:26] = struct.pack("<i", -24)
    assert np.array_equal(read_array(bytes(file)), PICTURE[::-1])


def test_bmp_with_the_oldest_header() -> None:
    pixels = bytes([1, 2, 3, 0])
    header = struct.pack("<2sIHHIIHHHH", b"BM", 30, 0, 0, 26, 12, 1, 1, 1, 24)
    assert read_array(header + pixels).tolist() == [[[3, 2, 1]]]


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "BMP", "GIF"])
def test_one_pixel(format: str) -> None:
    picture = read(encode(Image.new("RGB", (1, 1), "white"), format))
    assert (picture.height, picture.width) == (1, 1)


@pytest.mark.parametrize("shape", [(5, 7, 3), (5, 7, 1), (1, 1, 3)])
def test_uint8_tensor(shape: tuple[int, ...]) -> None:
    values = noise(*shape)
    pixels = read_image(tensor_image(values), Limits(), INPUT)
    assert np.array_equal(np.asarray(pixels.values).reshape(shape), values)
    assert (pixels.height, pixels.width) == shape[:2]


@pytest.mark.parametrize("shape", [(5, 7, 3), (5, 7, 1), (1, 1, 3)])
def test_float32_tensor(shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(0).random(shape, np.float32)
    pixels = read_image(tensor_image(values), Limits(), INPUT)
    assert np.array_equal(np.asarray(pixels.values), values.transpose(2, 0, 1))
    assert (pixels.height, pixels.width) == shape[:2]


def test_the_ends_of_the_range_are_allowed() -> None:
    values = np.array([0.0, -0.0, 1.0], np.float32).reshape(1, 1, 3)
    assert read_image(tensor_image(values), Limits(), INPUT).height == 1


def test_reading_leaves_the_message_alone() -> None:
    message = image_pb2.Image(encoded=encode(PICTURE, "PNG"))
    before = message.SerializeToString()
    read_image(message, Limits(), INPUT)
    assert message.SerializeToString() == before
