"""Grad-CAM and guided Grad-CAM, against the paper, CAM and captum."""

from itertools import product
from math import ceil
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from convlens.v1 import explanation_methods_pb2 as pb
from convlens.v1.image_pb2 import (
    INTERPOLATION_BICUBIC,
    INTERPOLATION_BILINEAR,
    INTERPOLATION_NEAREST,
    Interpolation,
)
from convlens.workers.methods.goals import score_of
from convlens.workers.methods.grad_cam import grad_cam
from convlens.workers.methods.guided_backprop import guided_backprop
from convlens.workers.methods.guided_grad_cam import guided_grad_cam
from tests.workers.methods.calibrated import calibrated, picture
from tests.workers.methods.functions_as_modules import functions_as_modules
from tests.workers.methods.small import Small, run

TARGET = 2
SIZE = 14
LAYERS = range(8)
# Of networks whose map has both signs at each of these layers.
SEEDS = (1, 6, 7)


def layered(seed: int) -> list[nn.Module]:
    """Convolutions with batch norms and rectifiers, most of which overwrite what they take."""
    torch.manual_seed(seed)
    layers: list[nn.Module] = [
        *(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(inplace=True)),
        *(nn.MaxPool2d(2), nn.Conv2d(6, 8, 3), nn.ReLU(inplace=True), nn.Softplus()),
        *(nn.AvgPool2d(2, 1), nn.Flatten(), nn.Linear(8 * 4 * 4, 5)),
    ]
    for layer in layers:
        # With weights as large as these, maps differ from each other.
        for parameter in layer.parameters():
            nn.init.normal_(parameter)
    return layers


@pytest.fixture(params=SEEDS)
def layers(request: pytest.FixtureRequest) -> list[nn.Module]:
    return layered(request.param)


@pytest.fixture
def x() -> Tensor:
    return picture(SIZE, 7)


def same(a: Tensor, b: Tensor, limit: float = 1e-9) -> None:
    assert a.shape == b.shape
    assert b.abs().max() > 0, "nothing is compared"
    assert (a - b).abs().max() <= limit * b.abs().max()


def parameters(relu: bool, interpolation: Interpolation.ValueType) -> pb.GradCam:
    return pb.GradCam(relu=relu, interpolation=interpolation)


BILINEAR = {relu: parameters(relu, INTERPOLATION_BILINEAR) for relu in (True, False)}


def of_the_paper(layers: list[nn.Module], last: int, x: Tensor, relu: bool) -> Tensor:
    """Equations 1 and 2, over maps that nothing overwrites; the network is cut in two for it."""
    maps = nn.Sequential(*layers[: last + 1])(x[None]).clone().requires_grad_()
    nn.Sequential(*layers[last + 1 :])(maps.clone())[0, TARGET].backward()
    assert maps.grad is not None
    _, count, height, width = maps.shape
    total = torch.zeros(height, width, dtype=x.dtype)
    for k in range(count):
        alpha = sum(maps.grad[0, k].flatten().tolist()) / (height * width)
        total += alpha * maps[0, k].detach()
    return total.clamp(min=0) if relu else total


@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("last", LAYERS)
def test_grad_cam(layers: list[nn.Module], x: Tensor, last: int, relu: bool) -> None:
    network = Small(nn.Sequential(*layers), (3, SIZE, SIZE))
    call = network.trace.call(str(last))
    found = run(network, grad_cam(x, score_of(TARGET), BILINEAR[relu], call))
    expected = of_the_paper(layers, last, x, relu)
    assert relu or expected.min() < 0 < expected.max()
    same(found.coarse, expected)
    same(found.map, bilinear(expected, SIZE))


def bilinear(coarse: Tensor, size: int) -> Tensor:
    """Each pixel between the four places around its centre; beyond the last centres, the edge."""
    found = torch.zeros(size, size, dtype=coarse.dtype)
    for row, column in product(range(size), repeat=2):
        down, right = (
            min(max((at + 0.5) * places / size - 0.5, 0), places - 1)
            for at, places in zip((row, column), coarse.shape, strict=True)
        )
        for i, j in product({int(down), ceil(down)}, {int(right), ceil(right)}):
            found[row, column] += (1 - abs(i - down)) * (1 - abs(j - right)) * coarse[i, j]
    return found


def nearest(coarse: Tensor, size: int) -> Tensor:
    found = torch.zeros(size, size, dtype=coarse.dtype)
    for row, column in product(range(size), repeat=2):
        i, j = (int((at + 0.5) * len(coarse) / size) for at in (row, column))
        found[row, column] = coarse[i, j]
    return found


def test_the_nearest_place_is_that_under_the_centre_of_a_pixel(x: Tensor) -> None:
    layers = layered(6)
    network = Small(nn.Sequential(*layers), (3, SIZE, SIZE))
    p = parameters(True, INTERPOLATION_NEAREST)
    found = run(network, grad_cam(x, score_of(TARGET), p, network.trace.call("4")))
    same(found.map, nearest(of_the_paper(layers, 4, x, True), SIZE), 1e-12)


def test_a_cubic_of_what_is_not_negative_is_not_negative(x: Tensor) -> None:
    network = Small(nn.Sequential(*layered(6)), (3, SIZE, SIZE))
    call = network.trace.call("4")
    found = run(
        network, grad_cam(x, score_of(TARGET), parameters(True, INTERPOLATION_BICUBIC), call)
    )
    plain = nn.functional.interpolate(found.coarse[None, None], (SIZE, SIZE), mode="bicubic")[0, 0]
    assert plain.min() < 0
    same(found.map, plain.clamp(min=0))
    linear = run(network, grad_cam(x, score_of(TARGET), BILINEAR[True], call))
    assert not torch.equal(linear.map, found.map)


def test_what_a_rectifier_overwrites_is_seen_as_it_was(x: Tensor) -> None:
    overwriting, keeping = layered(1), layered(1)
    for layer in keeping:
        if isinstance(layer, nn.ReLU):
            layer.inplace = False
    for last in ("0", "1", "4"):
        maps: list[Tensor] = []
        for layers in (overwriting, keeping):
            network = Small(nn.Sequential(*layers), (3, SIZE, SIZE))
            steps = grad_cam(x, score_of(TARGET), BILINEAR[False], network.trace.call(last))
            maps.append(run(network, steps).coarse)
        assert (maps[0] < 0).any()
        same(maps[0], maps[1], 1e-12)


def test_before_average_pooling_and_one_linear_layer_grad_cam_is_cam(x: Tensor) -> None:
    torch.manual_seed(0)
    convolutions = [nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 8, 3), nn.ReLU(inplace=True)]
    body = nn.Sequential(*convolutions).double()
    head = nn.Linear(8, 5).double()
    network = Small(
        nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), head), (3, SIZE, SIZE)
    )
    found = run(network, grad_cam(x, score_of(TARGET), BILINEAR[False], network.trace.call("3")))
    maps = body(x[None])[0]
    cam = sum(head.weight[TARGET, k] * maps[k] for k in range(8))
    assert isinstance(cam, Tensor)
    # CAM adds what Grad-CAM averages.
    same(found.coarse * maps[0].numel(), cam)


def test_a_constant_network_gives_a_zero_map(x: Tensor) -> None:
    class Constant(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 5, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(x).mean((2, 3)) * 0 + 1

    network = Small(Constant(), (3, SIZE, SIZE))
    call = network.trace.call("conv")
    assert not run(network, grad_cam(x, score_of(TARGET), BILINEAR[True], call)).map.any()
    p = pb.GuidedGradCam(
        interpolation=INTERPOLATION_BILINEAR, reduction=pb.CHANNEL_REDUCTION_MAX_ABS
    )
    assert not run(network, guided_grad_cam(x, score_of(TARGET), p, call)).any()


GUIDED: dict[str, Any] = {"reduction": pb.CHANNEL_REDUCTION_NONE}


@pytest.mark.parametrize("last", ["2", "4", "5"])
def test_guided_grad_cam_is_the_product_of_both(
    layers: list[nn.Module], x: Tensor, last: str
) -> None:
    layers[6] = nn.Identity()
    network = Small(nn.Sequential(*layers), (3, SIZE, SIZE))
    call, score = network.trace.call(last), score_of(TARGET)
    p = pb.GuidedGradCam(interpolation=INTERPOLATION_BILINEAR, **GUIDED)
    found = run(network, guided_grad_cam(x, score, p, call))
    where = run(network, grad_cam(x, score, BILINEAR[True], call)).map
    what = run(network, guided_backprop(x, score, pb.GuidedBackprop(**GUIDED)))
    same(found, what * where[:, :, None])
    assert found.min() < 0 < found.max()


MODES = {"bilinear": INTERPOLATION_BILINEAR, "nearest-exact": INTERPOLATION_NEAREST}
# Some of them are overwritten by the rectifier behind them.
KNOWN = [
    *(("alexnet", last) for last in ("features.2", "features.6", "features.10", "features.11")),
    *(("vgg11", last) for last in ("features.8", "features.18", "features.20", "avgpool")),
    *(("resnet18", last) for last in ("layer2.0.bn1", "layer3", "layer4.1.conv2", "layer4")),
]


@pytest.mark.parametrize(("name", "layer"), KNOWN)
@pytest.mark.filterwarnings("ignore:Input Tensor 0 did not already require gradients")
@pytest.mark.filterwarnings("ignore:Setting backward hooks on ReLU activations")
class TestAgainstCaptum:
    """captum neither rectifies nor interpolates linearly unless it is told so.

    Its "nearest" takes the place under the first edge of a pixel, ours that under its centre, which
    torch calls "nearest-exact".
    """

    def test_grad_cam(self, name: str, layer: str) -> None:
        from captum.attr import LayerAttribution, LayerGradCam

        network, x = calibrated(name, 64), picture(64, 9)
        method = LayerGradCam(network.module, network.module.get_submodule(layer))
        for relu in (True, False):
            coarse = method.attribute(x[None], TARGET, relu_attributions=relu)
            assert isinstance(coarse, Tensor)
            for mode, number in MODES.items():
                expected = LayerAttribution.interpolate(coarse, (64, 64), mode)
                p = parameters(relu, number)
                steps = grad_cam(x, score_of(TARGET), p, network.trace.call(layer))
                found = run(network, steps)
                same(found.coarse, coarse[0, 0].detach(), 1e-6)
                same(found.map, expected[0, 0].detach(), 1e-6)

    def test_guided_grad_cam(self, name: str, layer: str) -> None:
        from captum.attr import GuidedGradCam

        network, x = calibrated(name, 64), picture(64, 9)
        method = GuidedGradCam(network.module, network.module.get_submodule(layer))
        expected = method.attribute(x[None], TARGET, interpolate_mode="bilinear")[0]
        p = pb.GuidedGradCam(interpolation=INTERPOLATION_BILINEAR, **GUIDED)
        call = network.trace.call(layer)
        found = run(network, guided_grad_cam(x, score_of(TARGET), p, call))
        same(found, expected.detach().permute(1, 2, 0), 1e-6)


@pytest.mark.filterwarnings("ignore:Input Tensor 0 did not already require gradients")
@pytest.mark.filterwarnings("ignore:Setting backward hooks on ReLU activations")
@pytest.mark.parametrize(
    ("name", "layer"), [("googlenet", "inception3b"), ("densenet121", "features.norm5")]
)
def test_captum_leaves_out_rectifiers_that_are_functions(name: str, layer: str) -> None:
    """In GoogLeNet they are all, in DenseNet it is the last; Grad-CAM alone needs no rule."""
    from captum.attr import GuidedGradCam, LayerGradCam

    network, x = calibrated(name, 64), picture(64, 9)
    maps, call = network.module.get_submodule(layer), network.trace.call(layer)
    score = score_of(TARGET)
    coarse = LayerGradCam(network.module, maps).attribute(x[None], TARGET, relu_attributions=True)
    assert isinstance(coarse, Tensor)
    same(run(network, grad_cam(x, score, BILINEAR[True], call)).coarse, coarse[0, 0].detach(), 1e-6)

    def by_captum() -> Tensor:
        method = GuidedGradCam(network.module, maps)
        found = method.attribute(x[None], TARGET, interpolate_mode="bilinear")[0]
        return found.detach().permute(1, 2, 0)

    p = pb.GuidedGradCam(interpolation=INTERPOLATION_BILINEAR, **GUIDED)
    found = run(network, guided_grad_cam(x, score, p, call))
    assert (found - by_captum()).abs().max() > 0.1 * found.abs().max()
    with functions_as_modules(network.module):
        same(found, by_captum(), 1e-6)
