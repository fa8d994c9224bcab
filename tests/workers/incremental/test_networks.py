"""What a window changes, computed alone, is what whole passes find: on networks of torchvision."""

import copy

import pytest
import torch
from torch import Tensor

from convlens.workers.incremental import FullPasses
from tests.workers.incremental.sweeps import check_same, plan_of, swept
from tests.workers.methods.calibrated import calibrated, picture
from tests.workers.methods.small import Small

# Name, input, window, stride, and a layer that is reached by patches.
DEFAULT = [
    ("vgg11", 48, 10, 8, "features.4"),
    ("resnet18", 80, 16, 14, "layer1.1.add"),
    ("googlenet", 80, 16, 14, "inception3a.cat"),
]
FULL = [
    *(("alexnet", 0), ("vgg11", 0), ("vgg16", 0), ("resnet18", 0), ("resnet50", 0)),
    *(("googlenet", 0), ("inception_v3", 299), ("densenet121", 0), ("mobilenet_v3_large", 0)),
    *(("efficientnet_b0", 0), ("shufflenet_v2_x1_0", 0), ("regnet_x_400mf", 0)),
    *(("regnet_y_400mf", 0), ("squeezenet1_1", 0), ("mnasnet1_0", 0)),
]


@pytest.mark.parametrize(("name", "size", "window", "stride", "layer"), DEFAULT)
def test_both_ways_find_the_same(
    name: str, size: int, window: int, stride: int, layer: str
) -> None:
    network = calibrated(name, size)
    check_same(network, picture(size, 3), window, stride, 1e-10, layer)


class Single(Small):
    """The same network in single precision."""

    def __init__(self, network: Small) -> None:
        self.module = network.module
        self.trace = network.trace
        self.points = 0

    def place(self, pixels: Tensor) -> Tensor:
        return pixels.to(torch.float32, memory_format=torch.channels_last, copy=True)


@pytest.mark.parametrize(("name", "size", "window", "stride"), [each[:4] for each in DEFAULT[1:2]])
def test_single_precision_takes_no_more_digits_than_whole_passes(
    name: str, size: int, window: int, stride: int
) -> None:
    """Whole passes of other numbers of rows differ as much: by some 1e-5 of the map's maximum."""
    network, x = copy.deepcopy(calibrated(name, size)), picture(size, 3)
    whole = FullPasses("for comparison")
    truth = swept(network, x, torch.full_like(x, 0.5), window, stride, whole).map
    network.module.float().to(memory_format=torch.channels_last)
    single = Single(network)
    plan = plan_of(single, window, stride)
    grey = torch.full_like(x, 0.5).float()
    found, expected = (
        float((swept(single, x.float(), grey, window, stride, way).map - truth).abs().max())
        for way in (plan, whole)
    )
    largest = float(truth.abs().max())
    assert 1e-8 * largest < expected < 1e-4 * largest
    assert found < 2 * expected + 1e-6 * largest


@pytest.mark.slow
@pytest.mark.parametrize(("name", "size"), FULL)
def test_both_ways_find_the_same_at_full_size(name: str, size: int) -> None:
    size = size or 224
    network = calibrated(name, size)
    check_same(network, picture(size, 3), 28, 28, 1e-10, worth=2)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "ceiling"),
    [("vgg16", 7.8), ("googlenet", 3.5), ("alexnet", 3.4), ("resnet50", 2.4), ("resnet18", 2.4)],
)
def test_the_multiply_adds_that_are_left(name: str, ceiling: float) -> None:
    """Most of the reference page's ceilings, for windows of 28 pixels, 14 apart.

    Fewer and larger groups of windows cost some more of them, and less time.
    """
    network = calibrated(name, 224)
    plan = plan_of(network, 28, 14)
    assert 1 / plan.share > 0.75 * ceiling
