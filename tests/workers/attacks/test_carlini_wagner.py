"""Carlini-Wagner, against its paper, networks without bends, and foolbox."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from convlens.v1 import attack_methods_pb2 as methods
from convlens.workers.attacks import Aim, Task
from convlens.workers.attacks.carlini_wagner import carlini_wagner
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
from tests.workers.attacks.oracles import foolbox, foolbox_distances
from tests.workers.attacks.straight import length_to_success, linear


def parameters(**given: Any) -> methods.CarliniWagner:
    filled: dict[str, Any] = {"search_steps": 4, "steps": 60, "learning_rate": 0.02}
    filled |= {"initial_c": 0.1, "confidence": 0, "abort_early": True}
    return methods.CarliniWagner(**{**filled, **given})


def reference(net: nn.Module, given: Task, p: methods.CarliniWagner) -> tuple[Tensor, list[int]]:
    """Sections V and VI of the paper with torch's Adam; the nearest, and the steps of each c."""
    x, fails, succeeds, c = given.x, 0.0, math.inf, p.initial_c
    nearest, least, counts = x, math.inf, list[int]()
    between = max(10, math.ceil(p.steps / 20))
    for _ in range(p.search_steps):
        w = torch.atanh((2 * x - 1) * 0.999999).requires_grad_()
        adam = torch.optim.Adam([w], lr=p.learning_rate)
        losses: list[float] = []
        squares: list[float] = []
        for step in range(p.steps):
            pixels = (torch.tanh(w) + 1) / 2
            margin = given.aim.lead(net(pixels[None]))[0]
            square = (pixels - x).square().sum()
            loss = square + c * (p.confidence - margin).clamp(min=0)
            success = float(margin.detach()) >= max(p.confidence, 1e-300)
            losses.append(float(loss.detach()))
            squares.append(float(square.detach()) if success else math.inf)
            if squares[-1] < least:
                nearest, least = pixels.detach(), squares[-1]
            recent = any(map(math.isfinite, squares[-3 * between :]))
            what, back, hardly = (
                (squares, 3 * between, 0.99) if recent else (losses, between, 0.997)
            )
            is_look = step % between == 0 and step >= back
            if p.abort_early and is_look and min(what) > hardly * min(what[:-back]):
                break
            adam.zero_grad()
            loss.backward()
            adam.step()
        counts.append(len(losses))
        if any(map(math.isfinite, squares[-3 * between :])):
            succeeds = c
        else:
            fails = c
        c = 10 * c if math.isinf(succeeds) else (fails + succeeds) / 2
    return nearest, counts


CASES = [
    {},
    {"abort_early": False, "steps": 30},
    {"confidence": 0.05},
    {"initial_c": 1, "steps": 240, "search_steps": 3},
    {"initial_c": 100},
]


@pytest.mark.parametrize("rank", [None, 2])
@pytest.mark.parametrize("case", CASES)
def test_it_takes_the_steps_of_the_paper(case: Any, rank: int | None) -> None:
    (net, x), p = undecided(1), parameters(**case)
    given = task(net, x, rank=rank)
    found, _ = attacked(net, carlini_wagner(given, p))
    nearest, counts = reference(net, given, p)
    assert not nearest.equal(x), "nothing is compared"
    torch.testing.assert_close(found.pixels, nearest, rtol=0, atol=1e-9)
    assert found.success and found.steps == sum(counts)
    if case == {}:
        assert min(counts) < p.steps, "nothing ended early"


@pytest.mark.parametrize("offset", [0.0, -100.0])
@pytest.mark.parametrize("rank", [None, 3])
@pytest.mark.parametrize("unbounded", [False, True])
def test_it_finds_the_nearest_where_that_is_known(
    unbounded: bool, rank: int | None, offset: float
) -> None:
    net, x = linear(2, offset=offset)
    given = task(net, x, rank=rank, unbounded=unbounded)
    p = parameters(search_steps=6, steps=150, learning_rate=0.01 if unbounded else 0.02)
    found, _ = attacked(net, carlini_wagner(given, p), *x.shape)
    least = length_to_success(net, x, given.aim)
    assert found.success and least <= float((found.pixels - x).norm()) <= 1.02 * least


def test_what_is_a_success_already_is_left_as_it_is() -> None:
    net, x = network(0), picture(0)
    given = Task(x, Aim((predicted(net, x) + 1) % 5), 0)
    found, points = attacked(net, carlini_wagner(given, parameters()))
    assert found.success and found.steps == 0 and points == 1
    assert found.pixels.equal(x)


def test_a_success_has_the_confidence_asked_for() -> None:
    net, x = undecided(0)
    given = task(net, x)
    leads: list[float] = []
    for confidence in (0, 0.02, 0.1):
        found, _ = attacked(net, carlini_wagner(given, parameters(confidence=confidence)))
        assert found.success
        leads.append(lead(net, given.aim, found.pixels))
    assert 0 < leads[0] < 0.02 <= leads[1] < 0.1 <= leads[2]


@pytest.mark.parametrize("abort_early", [False, True])
def test_no_gradient_moves_nothing(abort_early: bool) -> None:
    net, x = indifferent(2, 1, 0), picture(0)
    found, _ = attacked(net, carlini_wagner(task(net, x), parameters(abort_early=abort_early)))
    assert not found.success
    torch.testing.assert_close(found.pixels, x, rtol=0, atol=1e-6)


def test_black_and_white_move_and_nothing_leaves_the_bounds() -> None:
    # Each step takes them a part of the long way through the flat ends of tanh.
    (net, x), p = undecided(3), parameters(initial_c=10, learning_rate=0.1)
    found, _ = attacked(net, carlini_wagner(task(net, x), p))
    assert found.success
    assert found.pixels.min() >= 0 and found.pixels.max() <= 1
    for bound in (0, 1):
        assert ((found.pixels[x == bound] - bound).abs() > 1e-3).any()


def test_it_goes_on_until_the_rounded_picture_succeeds() -> None:
    net, x = undecided(1)
    early, _ = attacked(net, carlini_wagner(task(net, x), parameters()))
    aim = task(net, x).aim
    given = task(net, x, rounding=at_least(net, aim, 0.01))
    found, _ = attacked(net, carlini_wagner(given, parameters()))
    assert early.success and lead(net, aim, early.pixels) < 0.01
    assert found.success and lead(net, aim, found.pixels) > 0.01
    none, _ = attacked(net, carlini_wagner(task(net, x, rounding=lambda _: None), parameters()))
    assert not none.success


def test_of_what_it_finds_it_keeps_the_nearest() -> None:
    net, x = undecided(1)
    distances = [
        float((attacked(net, carlini_wagner(task(net, x), p))[0].pixels - x).norm())
        for p in (parameters(search_steps=n, initial_c=1000) for n in range(1, 5))
    ]
    assert distances == sorted(distances, reverse=True) and distances[0] > distances[-1]


@pytest.mark.parametrize(
    ("count", "searches", "steps"),
    [(6, 3, 60), pytest.param(32, 5, 200, marks=pytest.mark.slow)],
)
def test_it_fools_as_often_as_that_of_foolbox_and_as_near(
    count: int, searches: int, steps: int
) -> None:
    net, pictures, labels = trained()
    pictures, labels = pictures[:count], labels[:count]
    player = foolbox.attacks.L2CarliniWagnerAttack(
        binary_search_steps=searches, steps=steps, initial_const=0.1
    )
    theirs = foolbox_distances(net, pictures, labels, player)
    p = parameters(search_steps=searches, steps=steps, learning_rate=0.01)
    ours: list[float] = []
    for x, label in zip(pictures, labels, strict=True):
        found, _ = attacked(net, carlini_wagner(Task(x, Aim(int(label)), 0), p), *x.shape)
        assert found.success == (predicted(net, found.pixels) != int(label))
        ours.append(float((found.pixels - x).norm()) if found.success else math.inf)
    assert sum(map(math.isfinite, ours)) >= int(theirs.isfinite().sum()) > 0
    assert torch.tensor(ours).median() <= 1.01 * theirs.median()
