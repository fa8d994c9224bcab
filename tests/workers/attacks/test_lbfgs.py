"""Box-constrained L-BFGS, against its paper, networks without bends, and its neighbours."""

import math
from typing import Any

import pytest
import torch

from convlens.v1 import attack_methods_pb2 as methods
from convlens.workers.attacks import Aim, Task
from convlens.workers.attacks.deep_fool import deep_fool
from convlens.workers.attacks.lbfgs import lbfgs
from tests.workers.attacks.fooling import (
    at_least,
    attacked,
    indifferent,
    lead,
    network,
    picture,
    predicted,
    task,
    trained,
    undecided,
)
from tests.workers.attacks.straight import length_to_success, linear


def parameters(**given: Any) -> methods.LBFGS:
    filled: dict[str, Any] = {"search_steps": 10, "steps": 100, "initial_c": 0.01, "memory": 10}
    return methods.LBFGS(**{**filled, **given})


@pytest.mark.parametrize("offset", [0.0, -100.0])
@pytest.mark.parametrize("initial_c", [0.01, 10])
@pytest.mark.parametrize("rank", [1, 3])
@pytest.mark.parametrize("unbounded", [False, True])
def test_it_finds_the_nearest_where_that_is_known(
    unbounded: bool, rank: int, initial_c: float, offset: float
) -> None:
    # Where it is sure of its answers: else the loss looks at classes that are in nobody's way.
    net, x = linear(2, offset=offset, scale=100)
    given = task(net, x, rank=rank, unbounded=unbounded)
    found, _ = attacked(net, lbfgs(given, parameters(initial_c=initial_c)), *x.shape)
    least = length_to_success(net, x, given.aim)
    assert found.success and least <= float((found.pixels - x).norm()) <= 1.02 * least


def test_without_a_target_it_aims_at_the_runner_up() -> None:
    net, x = network(2), picture(2)
    free, _ = attacked(net, lbfgs(task(net, x), parameters()))
    aimed, _ = attacked(net, lbfgs(task(net, x, rank=1), parameters()))
    assert free.success and aimed.success
    runner_up = task(net, x, rank=1).aim.target
    assert predicted(net, free.pixels) == predicted(net, aimed.pixels) == runner_up
    torch.testing.assert_close(free.pixels, aimed.pixels, rtol=0, atol=1e-9)


def test_the_way_down_begins_where_the_loss_outweighs_the_length() -> None:
    # Where c is more than the loss is steep, x itself is the minimum: one point for each c.
    net, x = linear(0)
    given = task(net, x, rank=1)
    leaf = x.clone().requires_grad_()
    (-torch.log_softmax(net(leaf[None]), 1)[0, given.aim.target]).backward()
    assert leaf.grad is not None
    steepness = float(leaf.grad.norm())
    for share, stays in ((1.001, True), (0.999, False)):
        p = parameters(search_steps=1, initial_c=share * steepness)
        found, points = attacked(net, lbfgs(given, p), *x.shape)
        assert (found.steps == 1 and points == 2) == stays
        assert found.pixels.equal(x) == stays


def test_what_is_a_success_already_is_left_as_it_is() -> None:
    net, x = network(0), picture(0)
    given = Task(x, Aim((predicted(net, x) + 1) % 5), 0)
    found, points = attacked(net, lbfgs(given, parameters()))
    assert found.success and found.steps == 0 and points == 1
    assert found.pixels.equal(x)


@pytest.mark.parametrize("rank", [None, 2])
def test_no_gradient_moves_nothing(rank: int | None) -> None:
    net, x = indifferent(2, 1, 0), picture(0)
    found, points = attacked(net, lbfgs(task(net, x, rank=rank), parameters()))
    assert found.pixels.equal(x) and not found.success
    assert points == 11


@pytest.mark.parametrize("rank", [None, 4])
@pytest.mark.parametrize("seed", range(3))
def test_black_and_white_move_and_nothing_leaves_the_bounds(seed: int, rank: int | None) -> None:
    net, x = network(seed), picture(seed)
    given = task(net, x, rank=rank)
    found, _ = attacked(net, lbfgs(given, parameters()))
    assert found.success and lead(net, given.aim, found.pixels) > 0
    assert found.pixels.min() >= 0 and found.pixels.max() <= 1
    for bound in (0, 1):
        assert (found.pixels[x == bound] != bound).any()


def test_more_values_of_c_come_nearer() -> None:
    net, x = network(1), picture(1)
    distances = [
        float((attacked(net, lbfgs(task(net, x), p))[0].pixels - x).norm())
        for p in (parameters(search_steps=n) for n in (1, 4, 10))
    ]
    assert distances == sorted(distances, reverse=True) and distances[0] > 1.05 * distances[-1]


@pytest.mark.parametrize("double", [False, True])
def test_a_picture_of_single_precision_stays_one(double: bool) -> None:
    net, x = network(1), picture(1).float()
    given = task(net, x.double())
    exact, _ = attacked(net, lbfgs(given, parameters()))
    found, _ = attacked(net, lbfgs(Task(x, given.aim, 0), parameters(double_precision=double)))
    assert found.success and found.pixels.dtype == torch.float32
    assert found.pixels.min() >= 0 and found.pixels.max() <= 1
    length = float((found.pixels - x).norm())
    assert length == pytest.approx(float((exact.pixels - x).norm()), rel=0.02)


def test_it_goes_on_until_the_rounded_picture_succeeds() -> None:
    net, x = undecided(1)
    early, _ = attacked(net, lbfgs(task(net, x), parameters()))
    aim = task(net, x).aim
    least = 2 * lead(net, aim, early.pixels)
    found, _ = attacked(net, lbfgs(task(net, x, rounding=at_least(net, aim, least)), parameters()))
    assert early.success and found.success and lead(net, aim, found.pixels) > least
    none, _ = attacked(net, lbfgs(task(net, x, rounding=lambda _: None), parameters()))
    assert not none.success


@pytest.mark.parametrize("count", [6, pytest.param(32, marks=pytest.mark.slow)])
def test_it_comes_nearer_than_deep_fool(count: int) -> None:
    net, pictures, labels = trained()
    away: dict[str, list[float]] = {"lbfgs": [], "deep_fool": []}
    plainer = methods.DeepFool(norm=methods.NORM_L2, steps=50, overshoot=0.02, candidates=4)
    for x, label in zip(pictures[:count], labels[:count], strict=True):
        given = Task(x, Aim(int(label)), 0)
        for name, steps in (
            ("lbfgs", lbfgs(given, parameters(initial_c=1))),
            ("deep_fool", deep_fool(given, plainer)),
        ):
            found, _ = attacked(net, steps, *x.shape)
            assert found.success == (predicted(net, found.pixels) != int(label))
            away[name].append(float((found.pixels - x).norm()) if found.success else math.inf)
    assert torch.tensor(away["lbfgs"]).median() <= 1.01 * torch.tensor(away["deep_fool"]).median()
