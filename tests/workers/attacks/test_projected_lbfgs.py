"""L-BFGS within bounds, against its formulas and SciPy's L-BFGS-B."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor, nn
from torch.nn import functional as F

from convlens.workers.attacks.projected_lbfgs import (
    Bounds,
    Curvature,
    Search,
    projected_lbfgs,
)
from tests.workers.attacks.fooling import network, picture
from tests.workers.attacks.straight import linear

Function = Callable[[Tensor], Tensor]


def lowest(search: Search[None], function: Function) -> tuple[float, Tensor, int]:
    """The least value that was seen, where, and how many were asked for."""
    place, values, places = next(search), list[float](), list[Tensor]()
    while True:
        place = place.detach().requires_grad_()
        value = function(place)
        [gradient] = torch.autograd.grad(value, place)
        values.append(float(value.detach()))
        places.append(place.detach())
        try:
            place = search.send((values[-1], gradient))
        except StopIteration:
            least = min(range(len(values)), key=values.__getitem__)
            return values[least], places[least], len(values)


def scipy_lowest(function: Function, start: Tensor, low: float, high: float) -> float:
    """What SciPy comes down to."""

    def value_and_slope(flat: Any) -> tuple[float, Any]:
        place = torch.tensor(flat).view_as(start).requires_grad_()
        value = function(place)
        value.backward()
        assert place.grad is not None
        return float(value.detach()), place.grad.flatten().numpy()

    options = {"maxiter": 2000, "maxfun": 4000, "ftol": 1e-13, "gtol": 1e-9}
    found = minimize(
        value_and_slope,
        start.flatten().numpy(),
        jac=True,
        method="L-BFGS-B",
        bounds=[(low, high)] * start.numel(),
        options=options,
    )
    return float(found.fun)


def weighed(net: nn.Module, x: Tensor, c: float) -> Function:
    """What the attack minimises; smooth, as long as nobody asks at x."""

    def function(place: Tensor) -> Tensor:
        loss = F.cross_entropy(net(place[None]), torch.tensor([3]))
        return c * (place - x).norm() + loss

    return function


@pytest.mark.parametrize("seed", range(6))
def test_it_comes_down_as_far_as_scipy_on_a_bowl(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    factor = torch.randn(20, 20, generator=generator, dtype=torch.float64)
    middle = 2 * torch.rand(20, generator=generator, dtype=torch.float64) - 0.5

    def bowl(place: Tensor) -> Tensor:
        return 1 + (factor @ (place - middle)).square().sum()

    start = torch.full((20,), 0.5, dtype=torch.float64)
    value, place, _ = lowest(projected_lbfgs(start, Bounds(0, 1), 10, 500, 1e-13), bowl)
    assert value <= scipy_lowest(bowl, start, 0, 1) * (1 + 1e-6)
    assert place.min() == 0 and place.max() == 1, "no bound held anything"


@pytest.mark.parametrize("c", [0.1, 0.5])
@pytest.mark.parametrize("seed", range(4))
def test_it_comes_down_as_far_as_scipy_on_a_network_without_bends(seed: int, c: float) -> None:
    net, x = linear(seed)
    start = (x + 0.3 * (picture(seed, *x.shape) - 0.5)).clamp(0, 1)
    function = weighed(net, x, c)
    value, place, _ = lowest(projected_lbfgs(start, Bounds(0, 1), 10, 500, 1e-12), function)
    assert value <= scipy_lowest(function, start, 0, 1) * (1 + 1e-6)
    assert value < 0.95 * float(function(start)), "nothing was to be done"
    assert place.min() >= 0 and place.max() <= 1


@pytest.mark.parametrize("seed", range(4))
def test_it_comes_down_as_far_as_scipy_on_a_small_network(seed: int) -> None:
    net, x = network(seed), picture(seed)
    start = (x + 0.2 * (picture(seed + 9) - 0.5)).clamp(0, 1)
    function = weighed(net, x, 0.1)
    value, _, _ = lowest(projected_lbfgs(start, Bounds(0, 1), 10, 1000, 1e-13), function)
    assert value <= scipy_lowest(function, start, 0, 1) * (1 + 1e-6)


def test_its_steps_are_those_of_the_dense_formula() -> None:
    generator = torch.Generator().manual_seed(0)
    curve = torch.randn(8, 8, generator=generator, dtype=torch.float64)
    curve = curve @ curve.T
    held = torch.tensor([False, True, False, False, True, False, False, False])
    free = ~held
    curvature, pairs = Curvature(3), list[tuple[Tensor, Tensor]]()
    for _ in range(5):
        moved = torch.randn(8, generator=generator, dtype=torch.float64)
        pairs.append((moved, curve @ moved))
        curvature.learn(*pairs[-1])
    kept = [(s[free], y[free]) for s, y in pairs[-3:] if float(s[free] @ y[free]) > 0]
    assert len(kept) > 1
    s, y = kept[-1]
    eye = torch.eye(6, dtype=torch.float64)
    scale = float(s @ y / (y @ y))
    inverse = scale * eye
    for s, y in kept:
        turn = eye - torch.outer(y, s) / (s @ y)
        inverse = turn.T @ inverse @ turn + torch.outer(s, s) / (s @ y)
    gradient = torch.randn(8, generator=generator, dtype=torch.float64)
    found = curvature.direction(gradient, held)
    torch.testing.assert_close(found[free], -inverse @ gradient[free], rtol=0, atol=1e-9)
    torch.testing.assert_close(found[held], -scale * gradient[held], rtol=0, atol=1e-12)


def test_it_remembers_no_bend_to_the_wrong_side() -> None:
    curvature, way = Curvature(3), torch.ones(4, dtype=torch.float64)
    curvature.learn(way, -way)
    curvature.learn(way, 0 * way)
    assert curvature.is_empty


def test_where_nothing_falls_it_asks_once() -> None:
    start = torch.zeros(3, dtype=torch.float64)
    search = projected_lbfgs(start, Bounds(0, 1), 5, 100, 1e-9)
    value, _, asked = lowest(search, lambda place: place.sum())
    assert value == 0 and asked == 1
    search = projected_lbfgs(start, Bounds(0, 1), 5, 100, 1e-9)
    assert lowest(search, lambda place: 0 * place.sum())[2] == 1


def test_a_value_that_is_no_number_ends_it() -> None:
    start = torch.ones(3, dtype=torch.float64)
    search = projected_lbfgs(start, Bounds(-1e9, 1e9), 5, 100, 1e-9)
    next(search)
    search.send((1.0, torch.ones(3, dtype=torch.float64)))
    with pytest.raises(StopIteration):
        for _ in range(1000):
            search.send((float("nan"), torch.full((3,), float("nan"), dtype=torch.float64)))
