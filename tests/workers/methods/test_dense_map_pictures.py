"""Dense maps of pictures: which fit, what is cut off, and where the maximum lies."""

from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from convlens.contract import Failure
from convlens.v1 import explanation_methods_pb2 as pb
from convlens.v1 import image_pb2, network_pb2
from convlens.workers.dense import (
    fully_convolutional,
    on_original,
    prepare_larger,
)
from convlens.workers.images import Pixels
from convlens.workers.methods.dense_map import DenseMapResult, dense_map
from convlens.workers.network import Normalized
from convlens.workers.shapes import network as shapes
from convlens.workers.shapes.draw import CLASSES, draw
from tests.workers.methods.small import Small, run
from tests.workers.methods.test_dense_map import found, slid

GEOMETRY = network_pb2.InputGeometry(
    height=128, width=128, channels=3, interpolation=image_pb2.INTERPOLATION_BILINEAR
)


@pytest.fixture(scope="module")
def bundled() -> Small:
    module = Normalized(shapes.load(), shapes.MEAN, shapes.STD)
    return Small(module, (3, 128, 128))


@pytest.mark.parametrize(
    ("size", "side", "tensor"),
    [
        ((200, 270), None, (192, 256)),
        ((300, 400), 150, (128, 192)),
        ((400, 300), 150, (192, 128)),
        ((128, 128), None, (128, 128)),
        ((60, 90), 160, (160, 224)),
    ],
)
def test_pictures_are_resized_and_lose_what_no_place_sees(
    bundled: Small, size: tuple[int, int], side: int | None, tensor: tuple[int, int]
) -> None:
    dense = fully_convolutional(bundled, "shapes")
    picture = Image.effect_noise((size[1], size[0]), 50).convert("RGB")
    p = pb.DenseMap(shorter_side=side)
    prepared = prepare_larger(Pixels(picture), dense, GEOMETRY, p, "methods[0].dense_map")
    assert prepared.tensor.shape == (3, *tensor)
    x0, y0, x1, y1 = prepared.box
    scale = 1 if side is None else min(size) / side
    assert (y1 - y0, x1 - x0) == pytest.approx([edge * scale for edge in tensor], rel=0.01)
    assert (y0 + y1, x0 + x1) == pytest.approx(size, abs=2 * scale)
    whole = (0.0, 0.0, float(tensor[1]), float(tensor[0]))
    assert on_original(prepared, whole) == pytest.approx(prepared.box)
    result = run(bundled, dense_map(prepared.tensor, 0, p, dense.at(*tensor)))
    left, top, right, bottom = result.box
    assert left + right == pytest.approx(tensor[1]) and top + bottom == pytest.approx(tensor[0])


@pytest.mark.parametrize(
    ("size", "side", "words"),
    [
        (
            (100, 300),
            None,
            "is left out for a picture of 100 x 300 pixels .*; must be at least 128",
        ),
        ((100, 300), 127, "is 127 .* must be at least 128 and at most 295"),
        ((600, 600), None, "is left out .* at least 128 and at most 512"),
        ((600, 300), 363, "is 363 .* at least 128 and at most 362"),
        ((40, 4000), 128, "is 128 .*; no other would do"),
    ],
)
def test_pictures_that_do_not_fit_are_refused_with_what_does(
    bundled: Small, size: tuple[int, int], side: int | None, words: str
) -> None:
    dense = fully_convolutional(bundled, "shapes")
    pixels = Pixels(Image.new("RGB", (size[1], size[0])))
    p = pb.DenseMap(shorter_side=side)
    with pytest.raises(Failure, match=f"methods.0..dense_map.shorter_side {words}"):
        prepare_larger(pixels, dense, GEOMETRY, p, "methods[0].dense_map")


def test_no_picture_that_fits_has_more_places_than_promised(bundled: Small) -> None:
    dense = fully_convolutional(bundled, "shapes")
    sizes = [(128 + 32 * r, 128 + 32 * c) for r in range(70) for c in range(70)]
    fitting = [dense.grid(*size) for size in sizes if dense.fits(*size)]
    assert max(rows * columns for rows, columns in fitting) <= dense.most_places
    assert dense.fits(512, 512)


def on_shape(result: DenseMapResult, centre: tuple[float, float], radius: float) -> bool:
    """Whether the place of the maximum touches a circle on the picture."""
    row, column = divmod(int(result.map.argmax()), result.map.shape[1])
    left, top, *_ = result.box
    corner = left + result.stride[1] * column, top + result.stride[0] * row
    nearest = [
        min(max(middle, low), low + 32) - middle for middle, low in zip(centre, corner, strict=True)
    ]
    return nearest[0] ** 2 + nearest[1] ** 2 <= radius**2


# Not the triangle: where a crop cuts it off, the network sees a triangle too, and more surely.
@pytest.mark.parametrize("name", [name for name in CLASSES if name != "triangle"])
def test_the_maximum_lies_on_the_shape(bundled: Small, name: str) -> None:
    label = CLASSES.index(name)
    x, y = [(0.3, 0.7), (0.7, 0.3), (0.5, 0.45)][label % 3]
    picture = draw(label, size=320, label=label, position=(x, y), scale=0.1)
    result = found(bundled, pixels_of(picture.image), target=label)
    assert on_shape(result, (x * 320, y * 320), 0.1 * 320)


def test_where_the_network_pads_a_place_is_much_like_its_crop(bundled: Small) -> None:
    picture = draw(1, size=256, label=CLASSES.index("star"), position=(0.6, 0.4), scale=0.1)
    x = pixels_of(picture.image)
    ours = found(bundled, x, target=picture.label).map
    crops = slid(bundled, x, 32)[..., picture.label]
    assert not torch.allclose(ours, crops)
    assert torch.corrcoef(torch.stack([ours.flatten(), crops.flatten()]))[0, 1] > 0.9


def pixels_of(image: Any) -> Tensor:
    return torch.from_numpy(image).permute(2, 0, 1).double() / 255
