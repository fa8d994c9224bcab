"""Networks that have no dense map, since they look at the whole picture."""

import threading
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from convlens.contract import Failure
from convlens.workers.anatomy import trace
from convlens.workers.dense import (
    fully_convolutional,
)
from convlens.workers.dense.seam import find_seam
from tests.workers.methods.small import Small
from tests.workers.methods.test_dense_map import UNPADDED, _all, calibrated, conv, noise
from tests.workers.networks import build


class SqueezeExcitation(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.gate = nn.Conv2d(4, 4, 1)
        self.head = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return self.head((x * self.gate(self.pool(x)).sigmoid()).mean((2, 3)))


class KnowsPlaces(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.places = nn.Parameter(torch.rand(1, 4, 12, 12))
        self.head = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head((self.conv(x) + self.places).mean((2, 3)))


class TwoLevels(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, 2)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        both = [x.mean((2, 3)), self.second(x).mean((2, 3))]
        return self.head(torch.cat(both, 1))


REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "gates": (SqueezeExcitation, "pool"),
    "places": (KnowsPlaces, "add"),
    "levels": (TwoLevels, "mean"),
    "group norm": (lambda: conv(nn.GroupNorm(2, 8), nn.Conv2d(8, 5, 2), nn.Flatten(2)), "4"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_looks_at_the_whole_picture_is_refused_with_its_layer(name: str) -> None:
    make, layer = REFUSED[name]
    with pytest.raises(Failure, match=f"Layer {layer} of {name} cannot be used so") as refused:
        fully_convolutional(Small(make(), (3, 14, 14)), name)
    assert "AlexNet, VGG" in str(refused.value)


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("mobilenet_v3_small", "features.1.block.1.avgpool"),
        ("efficientnet_b0", "features.1.0.block.1.avgpool"),
        ("vit_b_32", "reshape"),
        ("swin_t", "features.1.0.attn.view_1"),
    ],
)
def test_gates_and_attention_of_torchvision_are_refused(name: str, layer: str) -> None:
    with pytest.raises(Failure, match=f"Layer {layer} of {name} cannot be used so"):
        find_seam(trace(build(name), (3, 224, 224)), name)


def test_a_network_that_insists_on_its_size_is_refused() -> None:
    class Insists(nn.Sequential):
        def forward(self, input: Tensor) -> Tensor:
            torch._assert(input.shape[2] == 14, "wrong size")
            return super().forward(input)

    module = Insists(conv(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))
    with pytest.raises(Failure, match=r"Layer 1 of test .* its own size alone .wrong size"):
        fully_convolutional(Small(module, (3, 14, 14)), "test")


def test_others_may_run_the_network_meanwhile() -> None:
    network = calibrated(UNPADDED["fully connected"][0](), (3, 14, 14))
    body = fully_convolutional(network, "test").at(24, 24)
    large, own = noise(2, 3, 24, 24), noise(2, 3, 14, 14)
    before = {name: value.clone() for name, value in network.module.state_dict().items()}
    expected = body.scores(large), network.module(own)
    broken: list[str] = []

    def repeat(compute: Callable[[], Tensor], wanted: Tensor) -> None:
        for _ in range(50):
            if not torch.equal(compute(), wanted):
                broken.append("other numbers")

    threads = [
        threading.Thread(target=repeat, args=(lambda: body.scores(large), expected[0])),
        threading.Thread(target=repeat, args=(lambda: network.module(own), expected[1])),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not broken
    assert all(torch.equal(before[k], v) for k, v in network.module.state_dict().items())
    assert not any(each._forward_hooks or each._forward_pre_hooks for each in _all(network))
