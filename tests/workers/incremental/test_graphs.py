"""Random small networks, windows, strides and sizes: both ways are equal."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from convlens.workers.incremental import FullPasses, Plan, plan
from tests.workers.incremental.sweeps import planned, swept
from tests.workers.methods.calibrated import picture
from tests.workers.methods.small import Small

CHANNELS = 8


@dataclass(frozen=True)
class Layer:
    """One of the kinds below, with some numbers for it."""

    kind: str
    kernel: int
    stride: int
    dilation: int
    groups: int
    flag: bool


class Shuffle(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        n, channels, height, width = x.shape
        apart = x.view(n, 2, channels // 2, height, width).transpose(1, 2).contiguous()
        return apart.view(n, channels, height, width)


class Split(nn.Module):
    """Half of the maps goes another way, as in ShuffleNet."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        first, second = x.chunk(2, dim=1)
        return torch.cat((first, self.inner(second)), dim=1)


class Residual(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        out = self.inner(x)
        out += x
        return functional.relu(out, inplace=True)


class Branches(nn.Module):
    def __init__(self, *inner: nn.Module) -> None:
        super().__init__()
        self.inner = nn.ModuleList(inner)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([each(x) for each in self.inner], 1)


class Squeeze(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Conv2d(CHANNELS, CHANNELS, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.fc(functional.adaptive_avg_pool2d(x, 1)))


class Padded(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return functional.pad(x, (1, 0, 2, 1), value=0.25)


class Last(nn.Module):
    """Channels last for a while, as in ConvNeXt."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(CHANNELS)
        self.linear = nn.Linear(CHANNELS, CHANNELS)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.norm(x.permute(0, 2, 3, 1))).tanh().permute(0, 3, 1, 2)


def convolution(a: Layer, outputs: int = CHANNELS, inputs: int = CHANNELS) -> nn.Module:
    padding = a.kernel * a.dilation // 2 if a.flag else 0
    return nn.Conv2d(*(inputs, outputs, a.kernel, a.stride, padding, a.dilation), groups=a.groups)


def same(a: Layer, channels: int = CHANNELS) -> nn.Module:
    """A convolution that keeps the size of its maps."""
    kernel = 2 * (a.kernel // 2) + 1
    padding = kernel // 2 * a.dilation
    return nn.Conv2d(channels, channels, kernel, 1, padding, a.dilation, groups=a.groups)


MAKERS: dict[str, Callable[[Layer], nn.Module]] = {
    "conv": convolution,
    "norm": lambda a: nn.BatchNorm2d(CHANNELS),
    "relu": lambda a: nn.ReLU(inplace=a.flag),
    "hardswish": lambda a: nn.Hardswish(inplace=a.flag),
    "max": lambda a: nn.MaxPool2d(
        a.kernel, a.stride, a.kernel // 2 if a.flag else 0, ceil_mode=a.groups > 1
    ),
    "average": lambda a: nn.AvgPool2d(
        *(a.kernel, a.stride, a.kernel // 2 if a.flag else 0), a.groups > 1, a.dilation == 1
    ),
    "residual": lambda a: Residual(nn.Sequential(same(a), nn.ReLU(inplace=True), same(a))),
    "branches": lambda a: Branches(nn.Conv2d(CHANNELS, 4, 1), nn.Conv2d(CHANNELS, 4, 3, padding=1)),
    "split": lambda a: Split(nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.ReLU())),
    "shuffle": lambda a: Shuffle(),
    "squeeze": lambda a: Squeeze(),
    "pad": lambda a: Padded(),
    "last": lambda a: Last(),
    "local": lambda a: nn.LocalResponseNorm(3),
}
LAYERS = st.builds(
    Layer,
    kind=st.sampled_from(sorted(MAKERS)),
    kernel=st.integers(1, 3),
    stride=st.integers(1, 2),
    dilation=st.integers(1, 2),
    groups=st.sampled_from([1, 2, 4]),
    flag=st.booleans(),
)
HEADS = st.sampled_from(["mean", "adaptive", "flatten"])
DRAWN: dict[str, Any] = {
    "layers": st.lists(LAYERS, min_size=1, max_size=7),
    "head": HEADS,
    "height": st.integers(20, 36),
    "width": st.integers(20, 36),
    "window": st.integers(2, 9),
    "share": st.floats(0.3, 1),
    "seed": st.integers(0, 100),
}


def network_of(layers: list[Layer], head: str, height: int, width: int) -> Small | None:
    """The network, or None where a map would vanish."""
    torch.manual_seed(len(layers))
    first = nn.Conv2d(3, CHANNELS, 3, padding=1)
    body = nn.Sequential(first, *(MAKERS[layer.kind](layer) for layer in layers))
    pooled: dict[str, list[nn.Module]] = {
        "mean": [nn.AdaptiveAvgPool2d(1)],
        "adaptive": [nn.AdaptiveAvgPool2d((3, 2))],
        "flatten": [],
    }
    try:
        ahead = nn.Sequential(body, *pooled[head], nn.Flatten()).double().eval()
        features = ahead(torch.zeros(1, 3, height, width).double()).shape[1]
    except RuntimeError:
        return None
    module = nn.Sequential(ahead, nn.Linear(features, 5))
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.is_floating_point():
            nn.init.normal_(tensor, std=0.4) if tensor.dim() > 1 else nn.init.uniform_(
                tensor, 0.5, 1.5
            )
    return Small(module, (3, height, width))


def check(
    layers: list[Layer],
    head: str,
    height: int,
    width: int,
    window: int,
    share: float,
    seed: int,
) -> None:
    network = network_of(layers, head, height, width)
    if network is None:
        return
    stride = max(1, round(share * window))
    way = planned(network, window, stride, worth=2)
    assert isinstance(way, Plan), way
    x = picture(36, seed)[:, :height, :width].contiguous()
    fill = torch.full_like(x, 0.5)
    found = swept(network, x, fill, window, stride, way, rows=32)
    whole = FullPasses("for comparison")
    expected = swept(network, x, fill, window, stride, whole, rows=32)
    apart = float((found.map - expected.map).abs().max())
    # Signals may grow by a lot; what they are subtracted from sets the last digit.
    scores = float(network.module(x[None]).abs().max())
    assert apart <= 1e-10 * float(expected.map.abs().max()) + 1e-13 * scores


QUIET: dict[str, Any] = {"deadline": None, "suppress_health_check": list(HealthCheck)}


@settings(max_examples=25, derandomize=True, **QUIET)
@given(**DRAWN)
def test_random_networks(**drawn: Any) -> None:
    check(**drawn)


def both_borders(numbers: tuple[int, ...]) -> list[list[tuple[int, ...]]]:
    """Windows near both borders in one group, where there are others between them."""
    middle = numbers[2:-2]
    return [[numbers[:2] + numbers[-2:], middle]] if middle else [[numbers]]


@settings(max_examples=25, derandomize=True, **QUIET)
@given(**DRAWN)
def test_windows_at_both_borders_may_be_one_group(**drawn: Any) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "_cuts", both_borders)
        check(**drawn)


@pytest.mark.slow
@settings(max_examples=600, derandomize=True, **QUIET)
@given(**DRAWN)
def test_many_random_networks(**drawn: Any) -> None:
    check(**drawn)


@pytest.mark.parametrize("kind", sorted(MAKERS))
def test_each_kind_alone(kind: str) -> None:
    """So that none is missed by chance; and most go through as patches, not as whole maps."""
    for layer in (Layer(kind, 3, 2, 1, 2, True), Layer(kind, 2, 1, 2, 1, False)):
        relu = Layer("relu", 1, 1, 1, 1, True)
        check([layer, relu, Layer("conv", 3, 1, 1, 1, True)], "mean", 33, 30, 5, 0.6, 1)
        network = network_of([layer, relu], "mean", 33, 30)
        assert network
        way = planned(network, 5, 3, worth=2)
        assert isinstance(way, Plan)
        if kind != "squeeze":
            assert way.share < 0.5
