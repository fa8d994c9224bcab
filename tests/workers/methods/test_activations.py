"""The strongest maps of a layer."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from convlens.contract import ErrorReason, Failure
from convlens.v1 import explanation_methods_pb2 as pb
from convlens.workers.anatomy.fields import maps
from convlens.workers.methods.activations import (
    ActivationsResult,
    activations,
    check_count,
    map_count,
)
from tests.workers.methods.calibrated import calibrated, picture
from tests.workers.methods.small import Small, run

SIZE = 12
MEASURES = {pb.MAP_STRENGTH_MAX: max, pb.MAP_STRENGTH_MEAN: lambda v: sum(v) / len(v)}


@pytest.fixture
def x() -> Tensor:
    return picture(SIZE, 3)


@pytest.fixture(params=range(3))
def layers(request: pytest.FixtureRequest) -> list[nn.Module]:
    torch.manual_seed(request.param)
    return [
        *(nn.Conv2d(3, 6, 3), nn.ReLU(inplace=True), nn.Conv2d(6, 7, 3, stride=2)),
        *(nn.Flatten(), nn.Linear(7 * 16, 5)),
    ]


def seen(network: Small, layer: str, x: Tensor, p: pb.Activations) -> ActivationsResult:
    call = network.trace.call(layer)
    place = maps(network.trace)[call]
    axes = place.axes if place and len(network.trace.output(layer).shape) > 1 else None
    return run(network, activations(x, p, call, axes))


@pytest.mark.parametrize("strength", MEASURES)
@pytest.mark.parametrize("last", range(3))
def test_the_strongest_maps_come_first(
    layers: list[nn.Module], x: Tensor, last: int, strength: Any
) -> None:
    network = Small(nn.Sequential(*layers), (3, SIZE, SIZE))
    found = seen(network, str(last), x, pb.Activations(count=4, strength=strength))
    # Alone, and not overwritten by the rectifier that comes next.
    output = nn.Sequential(*layers[: last + 1])(x[None])[0]
    strengths = [MEASURES[strength](values.flatten().tolist()) for values in output]
    assert len(set(strengths)) == len(strengths)
    order = sorted(range(len(output)), key=lambda n: strengths[n], reverse=True)[:4]
    assert [each.map for each in found.maps] == order
    assert [each.strength for each in found.maps] == pytest.approx([strengths[n] for n in order])
    for each in found.maps:
        assert torch.allclose(each.values, output[each.map], rtol=1e-12)


def test_the_units_of_a_vector_are_maps_of_one_place(layers: list[nn.Module], x: Tensor) -> None:
    network = Small(nn.Sequential(*layers), (3, SIZE, SIZE))
    found = seen(network, "4", x, pb.Activations(count=9, strength=pb.MAP_STRENGTH_MEAN))
    scores = network.module(x[None])[0]
    assert [each.map for each in found.maps] == scores.argsort(descending=True).tolist()
    assert all(each.values.tolist() == [[each.strength]] for each in found.maps)


def test_of_equal_maps_the_first_comes_first(x: Tensor) -> None:
    conv = nn.Conv2d(3, 40, 3)
    nn.init.zeros_(conv.weight)
    conv.bias = nn.Parameter(1.0 + (torch.arange(40) == 17))
    p = pb.Activations(count=5, strength=pb.MAP_STRENGTH_MAX)
    found = seen(Small(nn.Sequential(conv), (3, SIZE, SIZE)), "0", x, p)
    assert [each.map for each in found.maps] == [17, 0, 1, 2, 3]


class ChannelsLast(nn.Module):
    """Maps whose channels are the last axis, as ConvNeXt has them within its blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3)
        self.linear = nn.Linear(6, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.conv(x).permute(0, 2, 3, 1)).mean((1, 2))


def test_maps_are_found_along_whichever_axis_they_lie(x: Tensor) -> None:
    network = Small(ChannelsLast(), (3, SIZE, SIZE))
    assert network.trace.output("linear").shape == (10, 10, 8)
    p = pb.Activations(count=8, strength=pb.MAP_STRENGTH_MEAN)
    found = seen(network, "linear", x, p)
    scores = network.module(x[None])[0]
    assert [each.map for each in found.maps] == scores.argsort(descending=True).tolist()
    assert all(each.values.shape == (10, 10) for each in found.maps)


def test_maps_are_counted() -> None:
    assert map_count((6, 10, 12), (-2, -1)) == 6
    assert map_count((10, 12, 6), (-3, -2)) == 6
    assert map_count((2, 3, 10, 12), (-2, -1)) == 6
    assert map_count((6,), None) == 6
    assert map_count((197, 768), None) is None


def test_more_maps_than_a_layer_has_are_refused() -> None:
    check_count(pb.Activations(layer="conv", count=6), 6, "methods[0].activations")
    # Nobody asked for as many as the default says.
    check_count(pb.Activations(layer="conv", count=9), 6, "methods[0].activations")
    check_count(pb.Filters(layer="conv", count=64), 6, "methods[0].filters")
    with pytest.raises(Failure) as error:
        check_count(pb.Activations(layer="conv", count=7), 6, "methods[0].activations")
    assert error.value.reason == ErrorReason.ERROR_REASON_INVALID_REQUEST
    [violation] = error.value.violations
    assert violation.field == "methods[0].activations.count"
    assert violation.description == "is 7; must be at most 6, which 'conv' has"


@pytest.mark.parametrize(
    ("name", "layer"),
    [("alexnet", "features.10"), ("vgg11", "features.20"), ("resnet18", "layer2.0.bn1")],
)
def test_captum_gives_the_same_activations(name: str, layer: str) -> None:
    from captum.attr import LayerActivation

    network, x = calibrated(name, 64), picture(64, 4)
    module = network.module.get_submodule(layer)
    expected = LayerActivation(network.module, module).attribute(x[None])
    assert isinstance(expected, Tensor)
    found = seen(network, layer, x, pb.Activations(count=9, strength=pb.MAP_STRENGTH_MAX))
    assert len(found.maps) == 9
    for each in found.maps:
        assert each.strength > 0
        assert float((each.values - expected[0, each.map]).abs().max()) < 1e-6 * each.strength
