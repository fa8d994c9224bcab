"""The network made fully convolutional, against the network itself at every crop."""

import gc
import itertools
from collections.abc import Callable
from typing import Any, cast

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convlens.v1 import explanation_methods_pb2 as pb
from convlens.workers.anatomy import trace
from convlens.workers.dense import (
    Dense,
    FullyConvolutional,
    fully_convolutional,
)
from convlens.workers.dense.seam import find_seam, sides
from convlens.workers.methods.dense_map import DenseMapResult, dense_map
from convlens.workers.runner import Pass
from convlens.workers.runner.memory import MemoryPlan, footprint
from tests.workers.methods.small import Small, run
from tests.workers.networks import build

TARGET = 2


class Functional(nn.Module):
    """A head of functions, as older code has it; the size of the maps is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(inplace=True), nn.MaxPool2d(2))
        self.head = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.trunk(x)
        F.relu_(x)
        x = F.avg_pool2d(x, kernel_size=x.size()[2:])
        return self.head(x.view(x.size(0), -1))


class Branches(nn.Module):
    """Parallel branches, a sum, a mean that drops its axes, and a norm behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv2d(3, 6, 5, stride=2)
        self.two = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Softplus(), nn.Conv2d(4, 6, 3, stride=2))
        self.mix = nn.Conv2d(12, 12, 1)
        self.norm = nn.LayerNorm(12)
        self.head = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([self.one(x), self.two(x)], 1)
        x = x + torch.sigmoid(self.mix(x))
        return self.head(self.norm(x.mean((-1, 2))))


class TwoPools(nn.Module):
    """The mean and the maximum of each map, together."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Conv2d(3, 6, 3, dilation=2), nn.ELU(), nn.AvgPool2d(3, 2))
        self.head = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.trunk(x)
        both = [F.adaptive_avg_pool2d(x, 1), F.adaptive_max_pool2d(x, 1)]
        return self.head(torch.cat(both, 1).flatten(1))


class ChannelsLast(nn.Module):
    """A block of ConvNeXt without padding, and its head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 2, stride=2)
        self.depthwise = nn.Conv2d(8, 8, 3, groups=8)
        self.block = nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8))
        self.scale = nn.Parameter(torch.rand(8, 1, 1))
        self.head = nn.Sequential(nn.Flatten(1), nn.Linear(8, 5))

    def forward(self, x: Tensor) -> Tensor:
        x = self.depthwise(self.stem(x))
        x = x + self.scale * self.block(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return self.head(F.adaptive_avg_pool2d(x, (1, 1)))


def conv(*head: nn.Module) -> nn.Module:
    """Maps of 5 x 5 for pictures of 14 x 14, then a head."""
    return nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 8, 2), *head)


# Each network, how far its places are apart for pictures of 14 x 14, and the size of its windows.
UNPADDED: dict[str, tuple[Callable[[], nn.Module], int, tuple[int, int]]] = {
    "fully connected": (
        lambda: conv(
            nn.ReLU(inplace=True),
            nn.Flatten(),
            nn.Dropout(),
            nn.Linear(200, 16),
            nn.ReLU(inplace=True),
            nn.BatchNorm1d(16),
            nn.Linear(16, 5),
        ),
        2,
        (5, 5),
    ),
    "pooled to 3 x 3, as VGG is to 7 x 7": (
        lambda: conv(nn.AdaptiveAvgPool2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(72, 5)),
        2,
        (5, 5),
    ),
    "global average": (
        lambda: conv(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)),
        2,
        (5, 5),
    ),
    "a classifier before the average, as SqueezeNet": (
        lambda: conv(nn.Conv2d(8, 5, 1), nn.ReLU(), nn.AdaptiveAvgPool2d((1, 1)), nn.Flatten()),
        2,
        (5, 5),
    ),
    "a last convolution over the whole maps": (
        lambda: conv(nn.ReLU(), nn.Conv2d(8, 9, 5), nn.ReLU(), nn.Conv2d(9, 5, 1), nn.Flatten()),
        2,
        (5, 5),
    ),
    "one number in each last map": (
        lambda: nn.Sequential(
            nn.Conv2d(3, 6, 5, 3), nn.ReLU(), nn.MaxPool2d(4), nn.Flatten(), nn.Linear(6, 5)
        ),
        3,
        (4, 4),
    ),
    "overlapping windows that end before the border": (
        lambda: nn.Sequential(
            nn.Conv2d(3, 6, 3, 2), nn.ReLU(), nn.MaxPool2d(3, 2), nn.Flatten(), nn.Linear(24, 5)
        ),
        4,
        (2, 2),
    ),
    "functional": (Functional, 2, (6, 6)),
    "branches": (Branches, 2, (5, 5)),
    "two pools": (TwoPools, 2, (4, 4)),
    "channels last": (ChannelsLast, 2, (5, 5)),
    "linear": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(3 * 14 * 14, 5)), 1, (14, 14)),
}


def noise(*shape: int, seed: int = 7) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def calibrated(module: nn.Module, shape: tuple[int, int, int], seed: int = 0) -> Small:
    """With biases and statistics of norms that let the scores differ from place to place."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in module.named_parameters():
        if name.endswith("bias"):
            parameter.data = 0.2 * torch.randn(parameter.shape, generator=generator)
    norms = [each for each in module.modules() if isinstance(each, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.momentum = None
    with torch.no_grad():
        module.double().train()(noise(4, *shape))
    return Small(module, shape)


@pytest.fixture(params=itertools.product(UNPADDED, range(3)), ids=str)
def unpadded(request: pytest.FixtureRequest) -> tuple[Small, int, tuple[int, int]]:
    name, seed = request.param
    make, step, window = UNPADDED[name]
    torch.manual_seed(seed)
    return calibrated(make(), (3, 14, 14), seed), step, window


def slid(network: Small, x: Tensor, step: int) -> Tensor:
    """The network at every crop of its own size, one after the other: the slow way."""
    _, height, width = network.trace.image
    rows = []
    for top in range(0, x.shape[1] - height + 1, step):
        crops = [
            x[:, top : top + height, left : left + width]
            for left in range(0, x.shape[2] - width + 1, step)
        ]
        rows.append(torch.cat([network.module(crop[None]) for crop in crops]))
    return torch.stack(rows)


def found(network: Small, x: Tensor, target: int = TARGET, **given: Any) -> DenseMapResult:
    body = fully_convolutional(network, "test").at(*x.shape[1:])
    return run(network, dense_map(x, target, pb.DenseMap(**given), body))


def same(a: Tensor, b: Tensor, limit: float = 1e-9) -> None:
    assert a.shape == b.shape
    assert b.numel() == 1 or b.std() > 1e-4 * b.abs().max(), "it is the same everywhere"
    assert (a - b).abs().max() <= limit * b.abs().max()


def test_without_padding_every_place_has_the_score_of_its_crop(
    unpadded: tuple[Small, int, tuple[int, int]],
) -> None:
    network, step, window = unpadded
    x = noise(3, 27, 22)
    result = found(network, x)
    same(result.map, slid(network, x, step)[..., TARGET])
    assert (result.stride, result.crop) == ((step, step), (14, 14))
    assert fully_convolutional(network, "test").seam.shape[1:] == window


def test_at_the_size_of_the_input_there_is_one_place_with_the_score(
    unpadded: tuple[Small, int, tuple[int, int]],
) -> None:
    network, _, _ = unpadded
    x = noise(3, 14, 14)
    same(found(network, x).map, network.module(x[None])[:, TARGET, None])


@pytest.mark.parametrize("probabilities", [False, True])
def test_probabilities_are_those_of_each_place(probabilities: bool) -> None:
    network = calibrated(UNPADDED["fully connected"][0](), (3, 14, 14))
    x = noise(3, 20, 24)
    expected = slid(network, x, 2)
    expected = expected.softmax(-1) if probabilities else expected
    same(found(network, x, probabilities=probabilities).map, expected[..., TARGET])


def without_padding(name: str) -> nn.Module:
    """A network of torchvision that does not pad, with a small classifier."""
    module: Any = build(name)
    first = next(each for each in module.classifier if isinstance(each, nn.Linear))
    module.classifier = nn.Sequential(
        nn.Linear(first.in_features, 16), nn.ReLU(inplace=True), nn.Linear(16, 5)
    )
    torch.manual_seed(0)
    for each in module.modules():
        if isinstance(each, nn.Conv2d | nn.MaxPool2d):
            each.padding = (0, 0)
        if isinstance(each, nn.Conv2d | nn.BatchNorm2d | nn.Linear):
            each.reset_parameters()
    return module


@pytest.mark.parametrize(("name", "side"), [("alexnet", 195), ("vgg11_bn", 160)])
def test_networks_of_torchvision_without_padding(name: str, side: int) -> None:
    network = calibrated(without_padding(name), (3, side, side))
    dense = fully_convolutional(network, name)
    x = noise(3, side + dense.step[0], side + 1)
    same(found(network, x).map, slid(network, x, dense.step[0])[..., TARGET])


def resnet_maps(m: Any, x: Tensor) -> Tensor:
    x = m.maxpool(m.relu(m.bn1(m.conv1(x))))
    return m.layer4(m.layer3(m.layer2(m.layer1(x))))


# The maps of each network, its head, and the size of its input here.
PADDED: dict[str, tuple[Callable[[Any, Tensor], Tensor], Callable[[Any, Tensor], Tensor], int]] = {
    "alexnet": (
        lambda m, x: m.features(x),
        lambda m, x: m.classifier(m.avgpool(x).flatten(1)),
        128,
    ),
    "squeezenet1_1": (
        lambda m, x: m.classifier[:3](m.features(x)),
        lambda m, x: x.mean((2, 3)),
        65,
    ),
    "resnet18": (resnet_maps, lambda m, x: m.fc(x.mean((2, 3))), 64),
    "googlenet": (
        lambda m, x: m.inception5b(_googlenet(m, x)),
        lambda m, x: m.fc(x.mean((2, 3))),
        64,
    ),
    "densenet121": (
        lambda m, x: m.features(x).relu(),
        lambda m, x: m.classifier(x.mean((2, 3))),
        64,
    ),
    "mobilenet_v2": (
        lambda m, x: m.features(x),
        lambda m, x: m.classifier(x.mean((2, 3))),
        64,
    ),
    "convnext_tiny": (
        lambda m, x: m.features(x),
        lambda m, x: m.classifier(x.mean((2, 3), keepdim=True)),
        64,
    ),
}


def _googlenet(m: Any, x: Tensor) -> Tensor:
    x = m.maxpool2(m.conv3(m.conv2(m.maxpool1(m.conv1(x)))))
    x = m.maxpool3(m.inception3b(m.inception3a(x)))
    x = m.inception4e(m.inception4d(m.inception4c(m.inception4b(m.inception4a(x)))))
    return m.inception5a(m.maxpool4(x))


# By default a chain with fully connected layers, one with means, and one of branches.
DEFAULT = ("alexnet", "resnet18", "googlenet")


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name in DEFAULT else pytest.mark.slow) for name in PADDED],
)
def test_networks_of_torchvision_have_their_head_at_every_window_of_their_maps(name: str) -> None:
    maps_of, head, side = PADDED[name]
    module = build(name, weights=True, num_classes=5, **_extras(name))
    network = calibrated(module, (3, side, side))
    own = noise(3, side, side)
    same(found(network, own).map, module(own[None])[:, TARGET, None])
    dense = fully_convolutional(network, name)
    (_, height, width), step = dense.seam.shape, dense.step[0]
    x = noise(3, side + 2 * step, side + step + 3)
    maps = maps_of(module, x[None])
    expected = [
        [head(module, maps[..., r : r + height, c : c + width])[0, TARGET] for c in range(2)]
        for r in range(3)
    ]
    same(found(network, x).map, torch.tensor(expected, dtype=torch.float64))


def _extras(name: str) -> dict[str, Any]:
    return {"aux_logits": False} if name == "googlenet" else {}


def _all(network: Small) -> list[nn.Module]:
    return list(network.module.modules())


@pytest.mark.parametrize("name", ["vgg11", "squeezenet1_1", "resnet18"])
def test_the_trace_at_a_larger_size_is_what_tracing_there_finds(name: str) -> None:
    module = build(name, **_extras(name))
    own = trace(module, (3, 64, 64))
    seam = find_seam(own, name)
    body = FullyConvolutional(cast(Any, Traced(own)), seam).at(160, 96)
    larger = trace(module, (3, 160, 96))
    assert body.trace.image == larger.image
    local = sides(own).local
    for call, ours, truth in zip(own.calls, body.trace.calls, larger.calls, strict=True):
        if local[call.index]:
            assert ours.outputs == truth.outputs
    scores = body.trace.calls[-1].outputs[0]
    rows, columns = body.whole.grid(160, 96)
    assert scores.batch_shape == (rows * columns, 1000)


class Traced:
    """What there is of a network without weights."""

    module = nn.Identity()

    def __init__(self, own: Any) -> None:
        self.trace = own


def rows_of(plan: MemoryPlan, body: Dense) -> int:
    return plan.rows(Pass(torch.zeros(1, 3, body.height, body.width), body=body).kind)


def test_micro_batches_of_larger_pictures_have_fewer_rows_and_are_forgotten() -> None:
    network = Small(UNPADDED["fully connected"][0](), (3, 14, 14))
    dense = fully_convolutional(network, "test")
    plan = MemoryPlan(cast(Any, network), 8, None)
    assert [rows_of(plan, dense.at(side, side)) for side in (14, 16, 28, 56)] == [8, 6, 2, 1]
    gc.collect()
    assert not plan._planned
    kind = Pass(torch.zeros(1, 3, 14, 14), body=(body := dense.at(16, 16))).kind
    tight = MemoryPlan(cast(Any, network), 8, 2 * footprint(body, kind))
    assert tight.rows(kind) == 2


def test_the_footprint_of_a_larger_picture_counts_its_windows() -> None:
    network = Small(UNPADDED["linear"][0](), (3, 14, 14))
    dense = fully_convolutional(network, "test")
    body = dense.at(24, 24)
    kind = Pass(torch.zeros(1, 3, 24, 24), body=body).kind
    assert footprint(body, kind) >= 11 * 11 * 3 * 14 * 14 * 8


def test_pictures_of_one_size_share_their_passes() -> None:
    network = Small(UNPADDED["global average"][0](), (3, 14, 14))
    once, again = fully_convolutional(network, "test"), fully_convolutional(network, "test")
    x = torch.zeros(1, 3, 20, 20)
    kind = Pass(x, body=once.at(20, 20)).kind
    assert kind == Pass(x, body=again.at(20, 20)).kind
    assert kind != Pass(x, body=again.at(20, 22)).kind
    with pytest.raises(ValueError, match="less than"):
        once.at(13, 40)
