"""The filters of convolutions."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from convlens.contract import ErrorReason, Failure
from convlens.v1 import explanation_methods_pb2 as pb
from convlens.workers.anatomy import trace
from convlens.workers.methods.filters import FiltersResult, filters
from convlens.workers.network import Normalized
from tests.workers.networks import build


def shown(
    module: nn.Module, name: str, image: tuple[int, ...] = (3, 16, 16), **given: Any
) -> FiltersResult:
    defaults: dict[str, Any] = {"count": 64, "planes": 16}
    p = pb.Filters(layer=name, **(defaults | given))
    return filters(module, trace(module.eval(), image), name, p, "net@1")


@pytest.fixture
def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(3, 8, 5), nn.ReLU(inplace=True), nn.Conv2d(8, 6, 3, groups=2)),
        *(nn.Conv2d(6, 3, 1), nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 64, 5)),
    )


def test_filters_that_see_pixels_are_in_colour(network: nn.Sequential) -> None:
    found = shown(network, "0", count=5, planes=2)
    assert found.colour and found.available == 8
    assert torch.equal(found.filters, network.get_parameter("0.weight")[:5])


def test_other_filters_show_their_first_planes(network: nn.Sequential) -> None:
    conv = nn.Conv2d(8, 6, 3)
    module = nn.Sequential(network[0], conv)
    found = shown(module, "1", planes=5)
    assert not found.colour and found.available == 6
    assert torch.equal(found.filters, conv.weight[:, :5])
    assert shown(module, "1").filters.shape == (6, 8, 3, 3)


def test_filters_of_groups_show_the_maps_that_they_see(network: nn.Sequential) -> None:
    found = shown(network, "2")
    assert torch.equal(found.filters, network.get_parameter("2.weight"))
    assert found.filters.shape == (6, 4, 3, 3)


def test_three_maps_are_no_colours(network: nn.Sequential) -> None:
    assert not shown(network, "4").colour
    # Nor is one channel of a pixel.
    assert not shown(nn.Sequential(nn.Conv2d(3, 6, 3, groups=3)), "0").colour


def test_grey_pictures_have_one_plane() -> None:
    found = shown(nn.Sequential(nn.Conv2d(1, 4, 3)), "0", (1, 8, 8))
    assert found.colour and found.filters.shape == (4, 1, 3, 3)


class Inside(nn.Module):
    """As torchvision's GoogLeNet takes channels apart to scale them."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        channels = [torch.unsqueeze(x[:, n], 1) * (n + 0.5) + 0.1 for n in range(3)]
        return self.conv(self.norm(torch.cat(channels, 1)))


def test_normalised_pixels_are_pixels() -> None:
    module = Normalized(Inside(), [0.5] * 3, [0.2] * 3).eval()
    traced = trace(module, (3, 16, 16), root="body")
    p = pb.Filters(layer="conv", count=2, planes=1)
    found = filters(module, traced, "conv", p, "net@1")
    assert found.colour and found.filters.shape == (2, 3, 3, 3)


class Functional(nn.Module):
    """A convolution that is a function, and one of a class of its own that pads first."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(4, 3, 3, 3))
        self.padded = nn.Conv2d(4, 5, 3, padding=1, padding_mode="reflect")

    def forward(self, x: Tensor) -> Tensor:
        return self.padded(F.conv2d(x, self.weight)).mean((2, 3))


def test_functions_and_padded_convolutions_have_filters() -> None:
    module = Functional()
    assert torch.equal(shown(module, "conv2d").filters, module.weight)
    assert torch.equal(shown(module, "padded").filters, module.padded.weight)


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("alexnet", "features.0"),
        ("resnet18", "layer1.0.conv1"),
        ("mobilenet_v3_small", "features.1.block.0.0"),
        ("googlenet", "conv1.conv"),
        ("vit_b_16", "conv_proj"),
    ],
)
def test_filters_of_known_networks(name: str, layer: str) -> None:
    module = build(name)
    found = shown(module, layer, (3, 224, 224), planes=4096)
    weight = module.get_parameter(f"{layer}.weight")
    assert found.filters.shape == weight[:64].shape
    assert found.available == len(weight)


def test_what_is_handed_out_is_no_weight_of_the_network(network: nn.Sequential) -> None:
    found = shown(network, "0")
    found.filters.zero_()
    assert network.get_parameter("0.weight").any()


@pytest.mark.parametrize("layer", ["1", "5", "6"])
def test_other_layers_have_no_filters(network: nn.Sequential, layer: str) -> None:
    with pytest.raises(Failure) as error:
        shown(network, layer)
    assert error.value.reason == ErrorReason.ERROR_REASON_LAYER_NOT_APPLICABLE
    assert str(error.value) == (
        f"Layer '{layer}' of net@1 cannot be used so: "
        "it is no convolution over maps; choose a layer of kind Conv2d."
    )


def test_a_block_has_no_filters_of_its_own() -> None:
    module = nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()))
    with pytest.raises(Failure, match="is no convolution"):
        shown(module, "0")
    assert shown(module, "0.0").filters.shape == (4, 3, 3, 3)


def test_weights_that_a_pass_computes_are_not_learned() -> None:
    module = nn.Sequential(weight_norm(nn.Conv2d(3, 4, 3)))
    with pytest.raises(Failure, match="its weights are computed anew in each pass"):
        shown(module, "0")
