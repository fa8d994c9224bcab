"""Preparing a picture for a network equals torchvision's own presets, bit for bit."""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
import pytest
import skimage.data
import torch
import torchvision.transforms.functional as reference
from PIL import Image
from torchvision import models
from torchvision.transforms import InterpolationMode
from torchvision.transforms._presets import ImageClassification

from convlens.contract import Failure
from convlens.contract.errors import keys_of, reason_name
from convlens.v1 import image_pb2, network_pb2
from convlens.workers.images import Limits, Pixels, Prepared, plan, prepare, read_image

from .image_files import INPUT, encode, little_memory, noise, tensor_image

AS_IS = image_pb2.GEOMETRY_AS_IS
BY_NETWORK = image_pb2.GEOMETRY_NETWORK
INTERPOLATIONS = {
    InterpolationMode.BILINEAR: image_pb2.INTERPOLATION_BILINEAR,
    InterpolationMode.BICUBIC: image_pb2.INTERPOLATION_BICUBIC,
    InterpolationMode.NEAREST: image_pb2.INTERPOLATION_NEAREST,
}
PRESETS: dict[str, ImageClassification] = {
    "resnet18 256/224": models.ResNet18_Weights.IMAGENET1K_V1.transforms(),
    "resnet50 232/224": models.ResNet50_Weights.IMAGENET1K_V2.transforms(),
    "efficientnet_b0 256/224 bicubic": models.EfficientNet_B0_Weights.IMAGENET1K_V1.transforms(),
    "inception_v3 342/299": models.Inception_V3_Weights.IMAGENET1K_V1.transforms(),
    "vit_b_16 384/384 bicubic": models.ViT_B_16_Weights.IMAGENET1K_SWAG_E2E_V1.transforms(),
    "efficientnet_v2_s 384/384": models.EfficientNet_V2_S_Weights.IMAGENET1K_V1.transforms(),
    "resized below the crop": ImageClassification(crop_size=65, resize_size=30),
    "nearest": ImageClassification(
        crop_size=33, resize_size=50, interpolation=InterpolationMode.NEAREST
    ),
}
PICTURES = {
    "square": skimage.data.astronaut(),
    "landscape": skimage.data.coffee(),
    "portrait": np.ascontiguousarray(skimage.data.coffee().transpose(1, 0, 2)),
    "odd": skimage.data.chelsea(),
    "small": skimage.data.chelsea()[100:137, 150:201],
    "grey": skimage.data.camera(),
    "as large as the crop": skimage.data.astronaut()[:224, 100:324],
    "as large as the resize": skimage.data.astronaut()[:256, :301],
    "one pixel": noise(1, 1, 3),
    "thin": noise(3, 200, 3),
    "tall": noise(200, 2, 3),
    "column": noise(100, 1, 3),
}


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Small tensors on a busy machine: more threads only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def input_of(preset: ImageClassification, channels: int = 3) -> network_pb2.InputGeometry:
    """The geometry as GetNetwork tells it."""
    return network_pb2.InputGeometry(
        height=preset.crop_size[0],
        width=preset.crop_size[0],
        channels=channels,
        resize=preset.resize_size[0],
        interpolation=INTERPOLATIONS[preset.interpolation],
    )


def read(values: np.ndarray) -> Pixels:
    """Raw pixels by way of the message."""
    three = values if values.ndim == 3 else values[:, :, None]
    return read_image(tensor_image(three), Limits(), INPUT)


def check(got: Prepared, original: np.ndarray, channels: int = 3) -> None:
    """What holds of everything that is prepared."""
    assert got.tensor.dtype == torch.float32 and got.tensor.is_contiguous()
    assert got.tensor.shape[0] == channels
    assert got.tensor.min() >= 0 and got.tensor.max() <= 1
    assert (got.height, got.width) == original.shape[:2]


def normalised(got: Prepared, preset: ImageClassification) -> torch.Tensor:
    """As torchvision's presets end; here this is part of the network."""
    return reference.normalize(got.tensor, preset.mean, preset.std)


@pytest.mark.parametrize("picture", PICTURES)
@pytest.mark.parametrize("name", PRESETS)
def test_bytes_equal_torchvision_on_pillow(name: str, picture: str) -> None:
    preset, values = PRESETS[name], PICTURES[picture]
    got = prepare(read(values), input_of(preset), BY_NETWORK, "any")
    check(got, values)
    expected = preset(Image.fromarray(values).convert("RGB"))
    assert torch.equal(normalised(got, preset), expected)


@pytest.mark.parametrize("picture", ["landscape", "odd", "small", "grey", "one pixel", "tall"])
@pytest.mark.parametrize(
    "name",
    ["resnet18 256/224", "vit_b_16 384/384 bicubic", "resized below the crop", "nearest"],
)
def test_floats_equal_torchvision_on_tensors(name: str, picture: str) -> None:
    preset = PRESETS[name]
    values = (PICTURES[picture] / 255).astype(np.float32)
    got = prepare(read(values), input_of(preset), BY_NETWORK, "any")
    check(got, values)
    three = values if values.ndim == 3 else values[:, :, None].repeat(3, axis=2)
    tensor = torch.from_numpy(three.transpose(2, 0, 1).copy())
    # Bicubic overshoots, and bilinear by its rounding; ours keeps pixels within [0, 1].
    resized = reference.resize(tensor, preset.resize_size, preset.interpolation).clamp(0, 1)
    assert torch.equal(got.tensor, reference.center_crop(resized, preset.crop_size))
    if preset.interpolation != InterpolationMode.BICUBIC:
        assert torch.allclose(normalised(got, preset), preset(tensor), rtol=0, atol=1e-6)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_files_equal_torchvision_on_pillow(format: str) -> None:
    preset = PRESETS["resnet18 256/224"]
    file = encode(skimage.data.coffee(), format)
    pixels = read_image(image_pb2.Image(encoded=file), Limits(), INPUT)
    got = prepare(pixels, input_of(preset), BY_NETWORK, "any")
    assert torch.equal(normalised(got, preset), preset(Image.open(io.BytesIO(file))))


def test_oblong_inputs_equal_torchvision() -> None:
    values = (skimage.data.coffee() / 255).astype(np.float32)
    input = network_pb2.InputGeometry(
        height=101, width=380, channels=3, resize=200, interpolation=INPUT.interpolation
    )
    got = prepare(read(values), input, BY_NETWORK, "any")
    resized = reference.resize(torch.from_numpy(values).permute(2, 0, 1).contiguous(), [200])
    assert torch.equal(got.tensor, reference.center_crop(resized.clamp(0, 1), [101, 380]))


def test_an_unset_geometry_is_the_networks() -> None:
    pixels = read(skimage.data.coffee())
    unset = prepare(pixels, INPUT, image_pb2.GEOMETRY_UNSPECIFIED, "any")
    assert torch.equal(unset.tensor, prepare(pixels, INPUT, BY_NETWORK, "any").tensor)


THIN = {"row": noise(1, 700, 3), "column": noise(900, 2, 3), "odd": noise(3, 1201, 3)}


@pytest.mark.parametrize("picture", THIN)
@pytest.mark.parametrize("name", ["resnet18 256/224", "efficientnet_b0 256/224 bicubic"])
@pytest.mark.parametrize("scale", [1, 255])
def test_only_the_crop_of_a_huge_resized_picture_is_computed(
    name: str, picture: str, scale: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    preset, values = PRESETS[name], THIN[picture]
    pixels = read(values if scale == 1 else (values / scale).astype(np.float32))
    whole = prepare(pixels, input_of(preset), BY_NETWORK, "any")
    monkeypatch.setattr(plan, "MAX_RESIZED", 1)
    part = prepare(pixels, input_of(preset), BY_NETWORK, "any")
    assert part.box == whole.box
    step = 1 / 255 if scale == 1 else 1e-4
    assert (part.tensor - whole.tensor).abs().max() <= step * 1.001


@pytest.mark.parametrize("shape", [(1, 16_384, 3), (16_384, 1, 3), (16_384, 1, 1)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_the_thinnest_pictures_cost_little(shape: tuple[int, ...], dtype: type) -> None:
    values = np.ones(shape, dtype)
    with little_memory():
        got = prepare(read(values), INPUT, BY_NETWORK, "any")
    check(got, values)
    assert (got.tensor == (1 / 255 if dtype == np.uint8 else 1)).all()


def test_a_huge_picture_is_padded_like_any_other() -> None:
    input = network_pb2.InputGeometry(
        height=40, width=40, channels=3, resize=30, interpolation=INPUT.interpolation
    )
    row = np.full((1, 16_384, 3), 255, np.uint8)
    small = prepare(read(row[:, :500]), input, BY_NETWORK, "any").tensor
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "MAX_RESIZED", 1)
        assert torch.equal(prepare(read(row), input, BY_NETWORK, "any").tensor, small)


@pytest.mark.parametrize("shape", [(300, 451), (451, 300), (20, 20), (100, 40), (3, 400)])
@pytest.mark.parametrize("name", ["resnet18 256/224", "resized below the crop"])
def test_the_box_says_where_the_tensor_lies(shape: tuple[int, int], name: str) -> None:
    height, width = shape
    y, x = np.mgrid[:height, :width].astype(np.float32) + np.float32(0.5)
    ramps = np.stack([y / height, x / width, np.ones_like(x)], axis=2)
    input = input_of(PRESETS[name])
    got = prepare(read(ramps), input, BY_NETWORK, "any")
    x0, y0, x1, y1 = got.box
    # Undone by the box, each pixel must hold the place of its centre in the original.
    rows = y0 + (np.arange(input.height) + 0.5) * (y1 - y0) / input.height
    columns = x0 + (np.arange(input.width) + 0.5) * (x1 - x0) / input.width
    # At the edge the filter is cut off, and outside it is black.
    edge = 1 + (y1 - y0) / input.height
    inner = np.ix_(
        (rows > edge) & (rows < height - edge), (columns > edge) & (columns < width - edge)
    )
    down = got.tensor[0].numpy() * height - rows[:, None]
    across = got.tensor[1].numpy() * width - columns
    # An antialiasing filter of few taps is itself off by a tenth of a pixel.
    assert np.abs(down[inner]).max() < 0.15 and np.abs(across[inner]).max() < 0.15
    outside = (rows < 0) | (rows > height)
    assert (got.tensor[2].numpy()[outside] == 0).all()


def test_boxes_of_known_pictures() -> None:
    square = prepare(read(noise(512, 512, 3)), INPUT, BY_NETWORK, "any")
    assert square.box == (32, 32, 480, 480)
    wide = prepare(read(noise(256, 512, 3)), INPUT, BY_NETWORK, "any")
    assert wide.box == (144, 16, 368, 240)
    padded = input_of(PRESETS["resized below the crop"])
    assert prepare(read(noise(60, 60, 3)), padded, BY_NETWORK, "any").box == (-34, -34, 96, 96)


AT_SIZE = network_pb2.InputGeometry(
    height=10, width=20, channels=3, resize=77, interpolation=INPUT.interpolation
)


def test_as_is_bytes_are_divided_by_255() -> None:
    values = np.arange(600).astype(np.uint8).reshape(10, 20, 3)
    got = prepare(read(values), AT_SIZE, AS_IS, "any")
    expected = values.transpose(2, 0, 1).astype(np.float32) / np.float32(255)
    assert np.array_equal(got.tensor.numpy(), expected)
    assert got.box == (0, 0, 20, 10)
    # What was rounded to 8 bits comes back as the same 8 bits.
    assert np.array_equal((got.tensor * 255).round().to(torch.uint8).permute(1, 2, 0), values)


def test_as_is_floats_keep_every_bit() -> None:
    values = np.random.default_rng(0).random((10, 20, 3), np.float32)
    values[0, 0] = (0.0, -0.0, np.float32(1e-45))
    got = prepare(read(values), AT_SIZE, AS_IS, "any").tensor
    assert got.is_contiguous()
    expected = values.transpose(2, 0, 1).copy()
    assert np.array_equal(got.numpy().view(np.uint32), expected.view(np.uint32))


@pytest.mark.parametrize("format", ["PNG", "BMP"])
def test_as_is_takes_files_too(format: str) -> None:
    values = noise(10, 20, 3)
    message = image_pb2.Image(encoded=encode(values, format), geometry=AS_IS)
    pixels = read_image(message, Limits(), AT_SIZE)
    raw = prepare(read(values), AT_SIZE, AS_IS, "any")
    assert torch.equal(prepare(pixels, AT_SIZE, message.geometry, "any").tensor, raw.tensor)


@pytest.mark.parametrize("shape", [(20, 10, 3), (10, 21, 3), (11, 20, 1), (1, 1, 3)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_as_is_of_another_size_is_refused(shape: tuple[int, ...], dtype: type) -> None:
    with pytest.raises(Failure) as caught:
        prepare(read(np.zeros(shape, dtype)), AT_SIZE, AS_IS, "shapes")
    failure = caught.value
    assert reason_name(failure.reason) == "GEOMETRY_MISMATCH"
    assert set(failure.metadata) == set(keys_of(failure.reason))
    assert failure.metadata == {
        "input": "10 x 20",
        "network": "shapes",
        "size": f"{shape[0]} x {shape[1]}",
    }


@pytest.mark.parametrize("geometry", [BY_NETWORK, AS_IS])
def test_networks_of_one_channel_get_the_luma(geometry: image_pb2.Geometry.ValueType) -> None:
    values = skimage.data.astronaut()[:60, :60]
    input = network_pb2.InputGeometry(
        height=60, width=60, channels=1, resize=60, interpolation=INPUT.interpolation
    )
    got = prepare(read(values), input, geometry, "any")
    check(got, values, channels=1)
    grey = np.asarray(Image.fromarray(values).convert("L"))
    assert np.array_equal(got.tensor[0], grey.astype(np.float32) / np.float32(255))
    floats = prepare(read((values / 255).astype(np.float32)), input, geometry, "any")
    check(floats, values, channels=1)
    # Pillow rounds to 8 bits.
    assert (floats.tensor - got.tensor).abs().max() <= 0.51 / 255


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_grey_pictures_fill_every_channel(channels: int, dtype: type) -> None:
    values = np.random.default_rng(0).integers(0, 2, (40, 50, 1)).astype(dtype)
    input = input_of(PRESETS["resized below the crop"], channels)
    got = prepare(read(values), input, BY_NETWORK, "any")
    check(got, values, channels)
    rgb = prepare(read(values.repeat(3, axis=2)), input, BY_NETWORK, "any")
    assert (got.tensor - rgb.tensor[:channels]).abs().max() <= 1e-6


def test_preparing_leaves_the_pixels_alone() -> None:
    pixels = read(np.random.default_rng(0).random((30, 40, 3), np.float32))
    assert isinstance(pixels.values, torch.Tensor)
    before = pixels.values.clone()
    prepare(pixels, INPUT, BY_NETWORK, "any").tensor.zero_()
    assert torch.equal(pixels.values, before)
