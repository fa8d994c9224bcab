"""What people hold pictures in, and the Image that goes to the server."""

import io
import os
import socket
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image as PIL

from convlens.client import ImageFileError, ImageFileNotFound, InvalidImage, MessageTooLarge
from convlens.client._images import is_many, to_image
from convlens.v1 import image_pb2, tensor_pb2

RGB = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)


def pixels(image: image_pb2.Image) -> np.ndarray[Any, Any]:
    """The array that the tensor of an image holds."""
    types = {tensor_pb2.DATA_TYPE_UINT8: "u1", tensor_pb2.DATA_TYPE_FLOAT32: "<f4"}
    tensor = image.tensor
    return np.frombuffer(tensor.data, types[tensor.dtype]).reshape(tuple(tensor.shape))


def decoded(image: image_pb2.Image) -> np.ndarray[Any, Any]:
    """The pixels of an encoded image."""
    return np.asarray(PIL.open(io.BytesIO(image.encoded)))


def test_bytes_go_as_they_are(tmp_path):
    path = tmp_path / "picture.jpg"
    path.write_bytes(b"the bytes")

    class Somewhere:
        def __fspath__(self) -> str:
            return os.fspath(path)

    network = image_pb2.GEOMETRY_NETWORK
    for source in (path, str(path), Somewhere(), b"the bytes", bytearray(b"the bytes")):
        assert to_image(source) == image_pb2.Image(encoded=b"the bytes", geometry=network)
    assert to_image(memoryview(b"the bytes")[4:]).encoded == b"bytes"
    with path.open("rb") as file:
        assert to_image(file).encoded == b"the bytes"
    assert to_image(io.BytesIO(b"the bytes")).encoded == b"the bytes"


def test_geometry():
    assert to_image(b"x").geometry == image_pb2.GEOMETRY_NETWORK
    assert to_image(b"x", "as_is").geometry == image_pb2.GEOMETRY_AS_IS
    assert to_image(RGB, "as_is").geometry == image_pb2.GEOMETRY_AS_IS
    with pytest.raises(InvalidImage, match="geometry is 'crop'"):
        to_image(b"x", cast(Any, "crop"))


def test_files_that_are_open_for_something_else(tmp_path):
    (tmp_path / "a.png").write_bytes(b"\xff\xd8")
    with (tmp_path / "a.png").open() as text:
        for source in (text, io.StringIO("a")):
            with pytest.raises(InvalidImage, match="open for text; open it for bytes"):
                to_image(cast(Any, source))
    with (tmp_path / "a.png").open("rb") as closed:
        pass
    with pytest.raises(InvalidImage, match=r"cannot be read: .*closed file"):
        to_image(closed)

    class Odd:
        def read(self) -> Any:
            return ["no bytes"]

    with pytest.raises(InvalidImage, match="gives list where bytes were expected"):
        to_image(Odd())


def test_files_without_an_end_are_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        for path, kind in [("pipe", "pipe"), ("socket", "socket"), ("/dev/zero", "device")]:
            with pytest.raises(ImageFileError, match=f"is a {kind}; give a regular file"):
                to_image(tmp_path / path)


def test_a_file_that_is_too_large_is_not_read(tmp_path):
    path = tmp_path / "large.png"
    with path.open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(MessageTooLarge, match=rf"{2**40} bytes of at most 1000\."):
        to_image(path, max_bytes=1000)


def test_an_array_that_is_too_large_is_not_copied():
    # 3 TiB of one byte: a copy would not fit.
    huge = np.broadcast_to(np.zeros(1, np.uint8), (2**20, 2**20, 3))
    with pytest.raises(MessageTooLarge, match=rf"has {3 * 2**40} bytes of at most 1000\."):
        to_image(huge, max_bytes=1000)
    assert to_image(np.zeros((10, 10, 1), np.float64), max_bytes=400).tensor.data == bytes(400)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(ImageFileNotFound, match=r"There is no file '.*cat\.png'"):
        to_image(tmp_path / "cat.png")
    with pytest.raises(FileNotFoundError):
        to_image(str(tmp_path / "cat.png"))
    with pytest.raises(ImageFileError, match="cannot be read: Is a directory"):
        to_image(tmp_path)
    with pytest.raises(ImageFileError, match="no path"):
        to_image("a\0b")


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_pil_images_go_without_loss(mode):
    image = PIL.fromarray(RGB).convert(mode)
    assert np.array_equal(decoded(to_image(image)), np.asarray(image))


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "HSV", "RGBX"])
def test_pil_images_of_rare_modes_become_rgb(mode):
    image = PIL.fromarray(RGB).convert("RGB").convert(mode)
    assert np.array_equal(decoded(to_image(image)), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize(("mode", "sent"), [("PA", "RGBA"), ("RGBa", "RGBA"), ("La", "LA")])
def test_alpha_is_not_lost(mode, sent):
    alpha = PIL.fromarray(np.arange(20, dtype=np.uint8).reshape(4, 5) * 12)
    image = PIL.fromarray(RGB).convert("LA" if mode == "La" else "RGBA")
    image.putalpha(alpha)
    image = image.convert("P").convert(mode) if mode == "PA" else image.convert(mode)
    there = PIL.open(io.BytesIO(to_image(image).encoded))
    assert there.mode == sent
    assert np.array_equal(np.asarray(there), np.asarray(image.convert(sent)))


@pytest.mark.parametrize(("mode", "dtype"), [("I;16", "<u2"), ("I;16L", "<u2"), ("I;16B", ">u2")])
def test_16_bits_of_a_pil_image_stay(mode, dtype):
    deep = np.array([[0, 1000], [40000, 65535]], np.uint16)
    image = PIL.frombytes(mode, (2, 2), deep.astype(dtype).tobytes())
    assert np.array_equal(decoded(to_image(image)), deep)


def test_floats_of_a_pil_image_go_as_their_numbers():
    shares = (RGB[:, :, 0] / 255).astype(np.float32)
    assert np.array_equal(pixels(to_image(PIL.fromarray(shares)))[:, :, 0], shares)


@pytest.mark.parametrize("value", [255.0, 1.01, -0.01, float("nan"), float("inf")])
def test_floats_of_a_pil_image_need_their_range(value):
    values = np.array([[0.0, 1.0], [0.5, value]], np.float32)
    with pytest.raises(InvalidImage, match=r"mode of the PIL image is F, .* float32 in \[0, 1\]"):
        to_image(PIL.fromarray(values))


def test_whole_numbers_of_a_pil_image_have_no_scale():
    with pytest.raises(InvalidImage, match=r"mode of the PIL image is I, .* convert it to I;16"):
        to_image(PIL.fromarray(np.array([[7]], np.int32)))


def test_a_mode_that_nobody_knows():
    class Image(PIL.Image):
        mode: Any = "XYZ"

    with pytest.raises(InvalidImage, match="mode of the PIL image is XYZ; use one of 1, CMYK, F"):
        to_image(Image())


def test_the_orientation_of_a_pil_image_goes_along(tmp_path):
    exif = PIL.Exif()
    exif[0x0112] = 6
    PIL.fromarray(RGB).save(tmp_path / "turned.jpg", exif=exif)
    sent = to_image(PIL.open(tmp_path / "turned.jpg"))
    assert PIL.open(io.BytesIO(sent.encoded)).getexif()[0x0112] == 6


def test_a_damaged_pil_image(tmp_path):
    buffer = io.BytesIO()
    PIL.fromarray(np.zeros((64, 64, 3), np.uint8)).save(buffer, "PNG")
    damaged = PIL.open(io.BytesIO(buffer.getvalue()[:-40]))
    with pytest.raises(InvalidImage, match="The PIL image cannot be read"):
        to_image(damaged)


@given(
    arrays.arrays(
        st.sampled_from([np.uint8, np.float32]),
        st.tuples(st.integers(1, 6), st.integers(1, 6), st.sampled_from([1, 3])),
        elements={"min_value": 0, "max_value": 1},
    )
)
def test_arrays_go_as_their_numbers(array):
    image = to_image(array)
    assert pixels(image).dtype == array.dtype
    assert np.array_equal(pixels(image), array)


def test_arrays_in_any_layout_of_memory():
    for array in (RGB[::-1, ::2], np.asfortranarray(RGB), RGB.transpose(1, 0, 2)):
        assert np.array_equal(pixels(to_image(array)), array)
    big = RGB.astype(">f4") / 255
    assert np.array_equal(pixels(to_image(big)), big)


def test_grey_arrays():
    assert pixels(to_image(RGB[:, :, 0])).shape == (4, 5, 1)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f4"])
def test_vectors_go_as_they_are(dtype):
    vector = np.array([2, -1, 300], dtype)
    sent = pixels(to_image(vector))
    assert (sent.dtype, sent.shape) == (np.float32, (3,))
    assert sent.tolist() == [2, -1, 300]
    assert pixels(to_image(torch.tensor([2.0, -1]))).tolist() == [2, -1]


def test_files_of_numpy(tmp_path):
    for array in (np.array([2.0, -1, 300]), RGB, RGB[:, :, 0] / 255):
        np.save(tmp_path / "array.npy", array)
        data = (tmp_path / "array.npy").read_bytes()
        for source in (tmp_path / "array.npy", data, io.BytesIO(data)):
            assert to_image(source) == to_image(array)


def test_files_of_numpy_that_hold_no_image(tmp_path):
    np.save(tmp_path / "array.npy", np.array([1, "a"], object), allow_pickle=True)
    with pytest.raises(InvalidImage, match=r"The .npy file cannot be read: Object arrays"):
        to_image(tmp_path / "array.npy")
    np.save(tmp_path / "array.npy", np.array([1, 2]))
    with pytest.raises(InvalidImage, match="the numbers of a vector must be floating point"):
        to_image(tmp_path / "array.npy")
    np.save(tmp_path / "array.npy", RGB)
    with pytest.raises(InvalidImage, match=r"The .npy file cannot be read"):
        to_image((tmp_path / "array.npy").read_bytes()[:-7])


def test_floats_of_other_widths_become_float32():
    for dtype in (np.float16, np.float64):
        sent = pixels(to_image((RGB / 255).astype(dtype)))
        assert sent.dtype == np.float32
        assert np.array_equal(sent, (RGB / 255).astype(dtype).astype(np.float32))


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.zeros((4, 5, 3), np.int64), "its numbers are int64"),
        (np.zeros((4, 5, 3), bool), "its numbers are bool"),
        (np.zeros((4, 5, 4), np.uint8), r"its shape is \[4, 5, 4\]\."),
        (np.zeros((3, 4, 5), np.uint8), r"its shape is \[3, 4, 5\]; move the channels last"),
        (np.zeros((2, 4, 5, 3), np.uint8), "for several images give a list"),
        (np.zeros((0, 5, 3), np.uint8), r"its shape is \[0, 5, 3\]"),
        (np.zeros(7, np.uint8), r"its shape is \[7\]"),
    ],
)
def test_arrays_that_are_no_image(array, said):
    with pytest.raises(InvalidImage, match=said) as caught:
        to_image(array)
    assert caught.value.reason == "TENSOR_INVALID"


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64, torch.bfloat16])
def test_torch_tensors_with_channels_first_or_last(dtype):
    last = torch.arange(60, dtype=torch.uint8).reshape(4, 5, 3).to(dtype)
    for tensor in (last, last.permute(2, 0, 1), last.permute(2, 0, 1).contiguous()):
        sent = pixels(to_image(tensor))
        assert np.array_equal(sent, last.float().numpy())
    assert pixels(to_image(last[:, :, 0])).shape == (4, 5, 1)


def test_a_torch_tensor_in_a_graph():
    tensor = torch.rand(3, 4, 5, requires_grad=True) * 1.0
    assert pixels(to_image(tensor)).shape == (4, 5, 3)


def test_a_torch_tensor_that_could_be_both_has_its_channels_first():
    tensor = torch.rand(3, 4, 3)
    assert np.array_equal(pixels(to_image(tensor)), tensor.permute(1, 2, 0).numpy())


def test_whatever_numpy_reads():
    class Array:
        def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray[Any, Any]:
            return RGB

    assert np.array_equal(pixels(to_image(Array())), RGB)


@pytest.mark.parametrize("source", [None, 3, {"a": 1}, (b for b in [b"x"])])
def test_what_is_no_image(source):
    with pytest.raises(InvalidImage, match="An image cannot be a"):
        to_image(source)


def test_one_or_many():
    assert is_many([]) and is_many((b"x",)) and is_many(["a.png"])
    for one in ("a.png", b"x", bytearray(b"x"), memoryview(b"x"), RGB, Path("a.png"), RGB[None]):
        assert not is_many(one)
