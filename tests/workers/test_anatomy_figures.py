"""The figures of the lectures and of the papers, as docs/anatomy.md explains them."""

import pytest
import torch
from torch import nn

from convlens.v1.anatomy_pb2 import Anatomy, Layer
from convlens.workers.anatomy import describe, trace

from .networks import build


def anatomy_of(module: nn.Module, *image: int) -> Anatomy:
    module = module.eval()
    traced = trace(module, image)
    return describe(traced, module, [False] * len(traced.calls))


def layer(anatomy: Anatomy, name: str) -> Layer:
    [found] = [layer for layer in anatomy.layers if layer.name == name]
    return found


@pytest.fixture(scope="module")
def vgg16() -> Anatomy:
    return anatomy_of(build("vgg16").to("meta"), 3, 224, 224)


@pytest.fixture(scope="module")
def alexnet() -> Anatomy:
    return anatomy_of(build("alexnet").to("meta"), 3, 224, 224)


@pytest.mark.parametrize(
    ("name", "weights", "biases"),
    [
        ("features.0", 1_728, 64),
        ("features.2", 36_864, 64),
        ("classifier.0", 102_760_448, 4096),
        ("classifier.3", 16_777_216, 4096),
        ("classifier.6", 4_096_000, 1000),
    ],
)
def test_weights_of_vgg16(vgg16, name, weights, biases):
    assert layer(vgg16, name).parameters == weights + biases


@pytest.mark.parametrize(
    ("name", "millions", "parameters"),
    [
        ("vgg11", 133, 132_863_336),
        ("vgg13", 133, 133_047_848),
        ("vgg16", 138, 138_357_544),
        ("vgg19", 144, 143_667_240),
    ],
)
def test_parameters_of_vgg_a_b_d_e(name, millions, parameters):
    anatomy = anatomy_of(build(name).to("meta"), 3, 224, 224)
    assert anatomy.parameters == parameters
    assert round(anatomy.parameters / 1e6) == millions


def test_activations_of_vgg16(vgg16):
    first = layer(vgg16, "features.0")
    assert list(first.output_shape) == [64, 224, 224]
    assert first.forward_bytes == 4 * 3_211_264
    assert first.training_bytes == 2 * first.forward_bytes
    # In place.
    assert layer(vgg16, "features.1").forward_bytes == 0


def test_memory_of_vgg16(vgg16):
    # The rows of the lectures' table, the picture among them: 15.2M values, and not 24M.
    rows = 150_528 + 2 * 3_211_264 + 802_816 + 2 * 1_605_632 + 401_408 + 3 * 802_816 + 200_704
    rows += 3 * 401_408 + 100_352 + 3 * 100_352 + 25_088 + 2 * 4_096 + 1_000
    assert rows == 15_237_608
    # Ours are those without the picture, and with the copy that the adaptive pooling makes.
    assert vgg16.activations == rows - 150_528 + 25_088 == 15_112_168
    assert vgg16.forward_bytes == 60_448_672
    memory = vgg16.training_memory
    assert (memory.activation_bytes, memory.activation_gradient_bytes) == (60_448_672, 60_448_672)
    assert (
        memory.parameter_bytes
        == memory.parameter_gradient_bytes
        == memory.momentum_bytes
        == 4 * 138_357_544
    )


def test_alexnet_of_torchvision(alexnet):
    assert alexnet.parameters == 61_100_840
    assert alexnet.multiply_adds == 714_188_480
    assert list(layer(alexnet, "features.0").output_shape) == [64, 55, 55]


def alexnet_of_the_paper(groups: int = 2) -> nn.Module:
    """Krizhevsky et al., 2012: two towers that meet in the third convolution, 227 pixels."""
    return nn.Sequential(
        *(nn.Conv2d(3, 96, 11, 4), nn.ReLU(), nn.LocalResponseNorm(5), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(96, 256, 5, padding=2, groups=2), nn.ReLU()),
        *(nn.LocalResponseNorm(5), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(256, 384, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(384, 384, 3, padding=1, groups=groups), nn.ReLU()),
        *(nn.Conv2d(384, 256, 3, padding=1, groups=2), nn.ReLU(), nn.MaxPool2d(3, 2)),
        nn.Flatten(),
        *(nn.Linear(9216, 4096), nn.ReLU(), nn.Linear(4096, 4096), nn.ReLU()),
        nn.Linear(4096, 1000),
    )


def test_alexnet_of_the_paper():
    with torch.device("meta"):
        paper = anatomy_of(alexnet_of_the_paper(), 3, 227, 227)
    assert paper.parameters == 60_965_224
    # The paper counts 253,440 neurons in the first layer, as if its maps were 55 × 48.
    assert list(paper.layers[0].output_shape) == [96, 55, 55]
    assert 96 * 55 * 55 == 290_400
    assert 96 * 55 * 48 == 253_440
    assert paper.multiply_adds == 724_406_816
    assert paper.grammar == (
        "INPUT -> [CONV -> RELU -> NORM -> POOL]*2 -> [CONV -> RELU]*3 -> POOL "
        "-> [FC -> RELU]*2 -> FC"
    )


def test_the_operations_of_the_lectures():
    # 832M: the fourth convolution without its two towers, and each row cut to whole millions.
    with torch.device("meta"):
        lectures = anatomy_of(alexnet_of_the_paper(groups=1), 3, 227, 227)
    millions = [layer.multiply_adds // 10**6 for layer in lectures.layers if layer.multiply_adds]
    assert millions == [105, 223, 149, 224, 74, 37, 16, 4]
    assert sum(millions) == 832


def test_a_reduction_before_a_wide_convolution():
    with torch.device("meta"):
        wide = nn.Conv2d(192, 32, 5, padding=2)
        reduced = nn.Sequential(nn.Conv2d(192, 16, 1), nn.Conv2d(16, 32, 5, padding=2))
    assert anatomy_of(nn.Sequential(wide), 192, 28, 28).multiply_adds == 120_422_400
    costs = [layer.multiply_adds for layer in anatomy_of(reduced, 192, 28, 28).layers]
    assert costs == [2_408_448, 10_035_200]
