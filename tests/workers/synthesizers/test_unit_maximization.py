"""Unit maximization against Adam's ascent in one loop, and units that nothing excites at first."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from convlens.contract import Failure
from convlens.v1 import synthesis_methods_pb2 as methods
from convlens.v1 import tensor_pb2
from convlens.workers.anatomy.fields import maps
from convlens.workers.methods.maps import MapLayer
from convlens.workers.synthesizers import Memory
from convlens.workers.synthesizers.growth import Growth, Sketch
from convlens.workers.synthesizers.unit_maximization import aim, unit_maximization
from tests.workers.methods.small import Small
from tests.workers.synthesizers.fooled import filled, grown, network, same_growth, task

# Of the second convolution's 8 maps.
WEIGHTS = [3.0, 0.0, -1.0, 0.5, 0.0, 0.0, 2.0, -0.5]


def direction_of(numbers: list[float], **given: Any) -> tensor_pb2.Tensor:
    data = np.array(numbers, "<f4").tobytes()
    given = {"shape": [len(numbers)], "dtype": tensor_pb2.DATA_TYPE_FLOAT32, "data": data} | given
    return tensor_pb2.Tensor(**given)


def unit_of(number: int, *position: int) -> methods.FeatureUnit:
    unit = methods.FeatureUnit(map_index=number)
    if position:
        unit.position.row, unit.position.column = position
    return unit


def parameters(priors: dict[str, Any] | None = None, **given: Any) -> methods.UnitMaximization:
    given = {"steps": 12, "l2_weight": 0.01} | given
    return filled(methods.UnitMaximization(priors=methods.Priors(**(priors or {})), **given))


def layer_of(body: Small, name: str) -> MapLayer:
    call = body.trace.call(name)
    place = maps(body.trace)[call]
    shape = body.trace.calls[call].outputs[0].shape
    return MapLayer(call, shape, place.fields if place else None, "net@1", name)


def maximized(body: Small, name: str, p: methods.UnitMaximization, **given: Any) -> Growth:
    layer = layer_of(body, name)
    work = replace(task(seed=1), **given)
    return grown(body, unit_maximization(work, layer, aim(layer, p, "method"), p))


def only(growth: Growth) -> Sketch:
    [sketch] = growth.sketches
    assert sketch
    return sketch


def along(maps: Tensor) -> Tensor:
    """Place by place."""
    direction = torch.tensor(WEIGHTS, dtype=torch.float64)
    direction /= direction.square().sum().sqrt()
    dots = [(maps[0, :, row, column] * direction).sum() for row in range(4) for column in range(4)]
    return torch.stack(dots).mean()


CASES: dict[str, tuple[str, dict[str, Any], Callable[[Tensor], Tensor]]] = {
    "map": ("3", {"unit": unit_of(5)}, lambda maps: maps[0, 5].mean()),
    "unit": ("3", {"unit": unit_of(5, 1, 2)}, lambda maps: maps[0, 5, 1, 2]),
    "direction": ("3", {"direction": direction_of(WEIGHTS)}, along),
    "vector": ("6", {"unit": unit_of(4)}, lambda scores: scores[0, 4]),
    "unit of a vector": ("6", {"unit": unit_of(4, 0, 0)}, lambda scores: scores[0, 4]),
}


@pytest.mark.parametrize("case", CASES)
def test_it_is_adams_ascent(case: str) -> None:
    name, given, objective = CASES[case]
    body: Any = Small(network())
    p = parameters(**given)
    upto = body.module[: int(name) + 1]
    pixels = task(seed=1).start(p.start).requires_grad_()
    start = pixels.detach().clone()
    adam = torch.optim.Adam([pixels], lr=p.learning_rate)
    for _ in range(p.steps):
        adam.zero_grad()
        loss = 0.01 * (pixels - task().mean).pow(2).sum() - objective(upto(pixels[None]))
        loss.backward()
        adam.step()
        pixels.data.clamp_(0, 1)
    sketch = only(maximized(body, name, p))
    assert (pixels.detach() - start).abs().max() > 0.1, "it has not moved"
    assert (sketch.pixels - pixels.detach()).abs().max() < 1e-9
    reached = float(objective(upto(sketch.pixels[None])))
    assert sketch.activation == pytest.approx(reached, rel=1e-9)
    assert reached > float(objective(upto(start[None])))
    assert sketch.objective == sketch.activation == -sketch.terms["activation"]
    assert sketch.probability is None


def test_only_what_the_unit_sees_changes() -> None:
    body = Small(network())
    p = parameters(unit=unit_of(5, 0, 0), start=methods.CANVAS_START_MEAN)
    sketch = only(maximized(body, "3", p))
    field = layer_of(body, "3").field((0, 0), (12, 12))
    changed = (sketch.pixels - task().mean).abs().amax(0)
    assert field.bottom < 12 and changed[: field.bottom, : field.right].max() > 0.1
    assert not changed[field.bottom :].any() and not changed[:, field.right :].any()


def test_the_length_of_a_direction_does_not_matter() -> None:
    body = Small(network())
    given = [direction_of([times * each for each in WEIGHTS]) for times in (1.0, 256.0)]
    one, other = (maximized(body, "3", parameters(direction=each)) for each in given)
    assert (only(one).pixels - only(other).pixels).abs().max() < 1e-12


def test_twenty_steps_are_eight_and_twelve() -> None:
    body, priors = Small(network()), {"jitter": 2, "rotation": 20.0}
    whole, part = (
        maximized(body, "3", parameters(priors, unit=unit_of(5), steps=steps)) for steps in (20, 8)
    )
    again = parameters(priors, unit=unit_of(5), steps=20)
    rest = maximized(body, "3", again, memory=Memory(part.state))
    same_growth(rest, whole)
    assert only(rest).activation == only(whole).activation


def dead(rectifier: nn.Module) -> Small:
    """A network whose last rectified maps are all off for a picture in the mean colour."""
    torch.manual_seed(0)
    module = nn.Sequential(
        *(nn.Conv2d(3, 4, 3), nn.ReLU()), *(nn.Conv2d(4, 4, 3), rectifier, nn.Conv2d(4, 4, 1))
    )
    first, second = module[0], module[2]
    with torch.no_grad():
        for layer, bias in ((first, 0.0), (second, -2.0)):
            assert isinstance(layer, nn.Conv2d) and layer.bias is not None
            layer.bias.fill_(bias)
        assert isinstance(second, nn.Conv2d)
        second.weight.abs_()
        second.weight *= 4
    return Small(module)


@pytest.mark.parametrize("rectifier", [nn.ReLU(), nn.ReLU(inplace=True), nn.ReLU6()])
@pytest.mark.parametrize("unit", [unit_of(1), unit_of(1, 4, 4)])
def test_a_dead_unit_comes_alive_where_the_gradient_is_redirected(
    unit: methods.FeatureUnit, rectifier: nn.Module
) -> None:
    body = dead(rectifier)
    mean = methods.CANVAS_START_MEAN
    given: dict[str, Any] = {"unit": unit, "start": mean, "steps": 40, "l2_weight": 0.0}
    stays = only(maximized(body, "3", parameters({"redirect_steps": 0}, **given)))
    assert stays.activation == 0 and stays.gradient_norm == 0
    assert torch.equal(stays.pixels, task().blank())
    lives = only(maximized(body, "3", parameters({"redirect_steps": 16}, **given)))
    assert lives.activation is not None and lives.activation > 0.1


def test_a_gradient_that_is_not_blocked_is_not_redirected() -> None:
    body, given = Small(network()), {"unit": unit_of(5), "steps": 10}
    plain, redirected = (
        maximized(body, "3", parameters({"redirect_steps": steps}, **given)) for steps in (0, 10)
    )
    same_growth(redirected, plain)


def test_a_redirected_gradient_is_asked_for_in_the_first_steps_only() -> None:
    body = dead(nn.ReLU())
    p = parameters({"redirect_steps": 2}, unit=unit_of(1), steps=9, learning_rate=1e-9)
    maximized(body, "3", p)
    assert body.points == 9 + 2 + 1


@pytest.mark.parametrize(
    ("given", "field", "words"),
    [
        (
            {"unit": unit_of(8)},
            "unit.map_index",
            "is 8; must be below 8, the number of maps of '3'",
        ),
        ({"unit": unit_of(0, 4, 0)}, "unit.position.row", "below 4, the height of the maps"),
        ({"unit": unit_of(0, 0, 7)}, "unit.position.column", "below 4, the width of the maps"),
        ({"direction": direction_of(WEIGHTS[1:])}, "direction", r"[7]; must be [8]"),
        ({"direction": direction_of(WEIGHTS, shape=[8, 1])}, "direction", "[8, 1]; must be [8]"),
        ({"direction": direction_of(WEIGHTS, data=b"1")}, "direction", "1 bytes; must have 32"),
        (
            {"direction": direction_of(WEIGHTS, dtype=tensor_pb2.DATA_TYPE_UINT8)},
            "direction",
            "must be float32",
        ),
        ({"direction": direction_of([0.0] * 8)}, "direction", "only zeros"),
        ({"direction": direction_of([float("nan"), *WEIGHTS[1:]])}, "direction", "NaN"),
        ({"direction": direction_of([float("inf"), *WEIGHTS[1:]])}, "direction", "finite"),
    ],
)
def test_what_a_layer_does_not_have_is_refused(
    given: dict[str, Any], field: str, words: str
) -> None:
    layer = layer_of(Small(network()), "3")
    with pytest.raises(Failure) as refused:
        aim(layer, parameters(**given), "method.unit_maximization")
    [violation] = refused.value.violations
    assert violation.field == f"method.unit_maximization.{field}"
    assert words in violation.description


def test_tiny_and_huge_directions_are_directions() -> None:
    layer = layer_of(Small(network()), "3")
    for times in (1e-37, 1e37):
        direction = direction_of([times * each for each in WEIGHTS])
        found: Any = aim(layer, parameters(direction=direction), "method")
        assert float(found.weights.square().sum()) == pytest.approx(1)
