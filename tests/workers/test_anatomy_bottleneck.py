"""The layer that Grad-CAM looks at by default."""

from functools import cache

import pytest
from torch import Tensor, nn
from torch.nn import functional as F

from convlens.workers.anatomy import INPUT, Trace, trace
from convlens.workers.anatomy.bottleneck import bottlenecks, last_bottleneck

from .networks import build, small


@cache
def traced(name: str) -> Trace:
    size = 299 if name == "inception_v3" else 224
    return trace(build(name).to("meta"), (3, size, size))


LAST = {
    "alexnet": ("avgpool", (256, 6, 6)),
    "vgg11": ("avgpool", (512, 7, 7)),
    "resnet18": ("layer4.1.relu_1", (512, 7, 7)),
    # Not the last convolution, which is one of four branches.
    "googlenet": ("inception5b.cat", (1024, 7, 7)),
    "inception_v3": ("Mixed_7c.cat_2", (2048, 8, 8)),
    # Not the last convolution, which makes 32 of these maps; a function in the network's own code.
    "densenet121": ("relu", (1024, 7, 7)),
    "mobilenet_v3_small": ("features.12.2", (576, 7, 7)),
    "efficientnet_b0": ("features.8.2", (1280, 7, 7)),
    "shufflenet_v2_x0_5": ("conv5.2", (1024, 7, 7)),
    "squeezenet1_0": ("classifier.2", (1000, 13, 13)),
    # Not the last convolution, whose block has a way round it.
    "convnext_tiny": ("features.7.2.add", (768, 7, 7)),
    "swin_t": ("permute.permute", (768, 7, 7)),
}


@pytest.mark.parametrize("name", LAST)
def test_the_last_maps_before_the_head_are_found(name: str) -> None:
    network = traced(name)
    found = last_bottleneck(network)
    assert found is not None
    assert (found, network.output(found).shape) == LAST[name]
    assert network.nodes[found].leaf, "GetNetwork lists it"


def test_patches_that_a_transformer_goes_on_from_are_not_the_last_to_hold_places() -> None:
    network = traced("vit_b_16")
    assert network.call("conv_proj") in bottlenecks(network)
    assert last_bottleneck(network) is None


@pytest.mark.parametrize("name", ["alexnet", "resnet18", "googlenet", "densenet121", "vit_b_16"])
def test_without_a_bottleneck_nothing_reaches_the_result(name: str) -> None:
    network = traced(name)
    assert network.result is not None
    assert list(bottlenecks(network)) == without_which_nothing_arrives(network)


def without_which_nothing_arrives(network: Trace) -> list[int]:
    """The definition: take a call out, and see whether the input still reaches the result."""
    found: list[int] = []
    for left_out in range(len(network.calls)):
        reached = {INPUT}
        for call in network.calls:
            pictures = {value.source for value in call.operands if value.axis is not None}
            if call.index != left_out and reached & pictures:
                reached.add(call.index)
        if network.result not in reached:
            found.insert(0, left_out)
    return found


def last_of(module: nn.Module, *image: int) -> str | None:
    return last_bottleneck(trace(module.eval(), image))


class Auxiliary(nn.Module):
    """The last call is a head that nobody listens to."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.head = nn.Linear(4, 5)
        self.other = nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        maps = self.conv(x)
        scores = self.head(maps.mean((2, 3)))
        self.other(maps)
        return scores


def test_what_nobody_listens_to_is_no_bottleneck() -> None:
    assert last_of(Auxiliary(), 3, 8, 8) == "conv"


class Bypassed(nn.Module):
    """Whatever comes after the input, the scores also see the picture itself."""

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x).mean((2, 3)) + x.amax((2, 3))


def test_a_network_without_a_bottleneck_has_no_last_one() -> None:
    assert last_of(Bypassed(), 3, 8, 8) is None
    assert last_of(nn.Sequential(nn.Linear(8, 8), nn.ReLU()), 8) is None
    assert last_of(nn.Sequential(nn.Conv2d(3, 4, 8), nn.Flatten()), 3, 8, 8) is None


class PartlyWritten(nn.Module):
    """Half of the maps are rectified where they lie; the others are as they were."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        maps = self.conv(x)
        maps[:, :2].relu_()
        return maps.mean((2, 3))


def test_what_is_written_in_part_is_not_taken_for_the_whole() -> None:
    network = trace(PartlyWritten().eval(), (3, 8, 8))
    assert network.call("relu") not in bottlenecks(network)
    assert last_bottleneck(network) is None


def test_in_place_shared_and_residual_layers_are_followed() -> None:
    # After the sum, the maps are a view of another shape that is written to.
    assert last_bottleneck(trace(small(), (3, 8, 8))) == "add"


def test_fully_connected_layers_are_a_head_however_large() -> None:
    layers = [nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 6 * 6, 5000)]
    assert last_of(nn.Sequential(*layers), 3, 8, 8) == "1"
