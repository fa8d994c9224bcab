"""PGD, against its paper and foolbox."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from convlens.v1 import attack_methods_pb2 as methods
from convlens.workers.attacks import Aim, Task
from convlens.workers.attacks.pgd import pgd
from tests.workers.attacks.fooling import (
    at_least,
    attacked,
    fooled,
    indifferent,
    lead,
    network,
    picture,
    predicted,
    slope,
    task,
    trained,
    undecided,
)
from tests.workers.attacks.nearby import drawn, projected
from tests.workers.attacks.oracles import foolbox, foolbox_fools

NORMS = [methods.NORM_LINF, methods.NORM_L2]


def parameters(norm: Any, **given: Any) -> methods.PGD:
    filled: dict[str, Any] = {"epsilon": 0.04, "epsilon_l2": 0.4, "relative_step_size": 0.15}
    filled |= {"steps": 12, "random_start": True, "restarts": 1}
    return methods.PGD(norm=norm, **{**filled, **given})


def reference(net: nn.Module, given: Task, p: methods.PGD) -> list[Tensor]:
    """All pictures that are seen: Madry et al., section 2.1, one at a time."""
    seen: list[Tensor] = []
    for start in range(p.restarts):
        x = drawn(given.x, p, "pgd", start) if p.random_start or start else given.x
        seen.append(x)
        for _ in range(p.steps):
            _, g = slope(net, x, given.aim.cross_entropy)
            if p.norm == methods.NORM_LINF:
                x = x + p.relative_step_size * p.epsilon * g.sign()
            else:
                x = x + p.relative_step_size * p.epsilon_l2 * g / g.norm()
            x = projected(given.x, x, p)
            seen.append(x)
    return seen


CASES = [
    {},
    {"random_start": False},
    {"restarts": 3, "steps": 5},
    {"random_start": False, "restarts": 2, "steps": 5},
    {"steps": 1},
]


@pytest.mark.parametrize("rank", [None, 1])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("norm", NORMS)
def test_it_takes_the_steps_of_the_paper(norm: Any, case: Any, rank: int | None) -> None:
    net, x, p = network(1), picture(1), parameters(norm, **case)
    given = task(net, x, rank=rank, stop_at_success=False)
    found, points = attacked(net, pgd(given, p))
    seen = reference(net, given, p)
    best = max(seen, key=lambda pixels: lead(net, given.aim, pixels))
    torch.testing.assert_close(found.pixels, best, rtol=0, atol=1e-9)
    assert points == len(seen) == p.restarts * (p.steps + 1)
    assert found.steps == p.restarts * p.steps


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("seed", range(4))
def test_it_ends_at_its_first_success(norm: Any, seed: int) -> None:
    (net, x), p = undecided(seed, by=0.02), parameters(norm, epsilon=0.08, epsilon_l2=0.8)
    given = task(net, x)
    found, points = attacked(net, pgd(given, p))
    seen = reference(net, given, p)
    first = next(n for n, pixels in enumerate(seen) if lead(net, given.aim, pixels) > 0)
    assert 0 < first < p.steps, "nothing is shown"
    assert found.success and points == first + 1 and found.steps == first
    torch.testing.assert_close(found.pixels, seen[first], rtol=0, atol=1e-9)


@pytest.mark.parametrize("norm", NORMS)
def test_it_begins_with_what_is_a_success_already(norm: Any) -> None:
    net, x = network(0), picture(0)
    aim = Aim((predicted(net, x) + 1) % 5)
    given = Task(x, aim, seed=0)
    found, points = attacked(net, pgd(given, parameters(norm, random_start=False)))
    assert found.success and points == 1 and found.steps == 0
    assert found.pixels.equal(x)


@pytest.mark.parametrize("norm", NORMS)
def test_it_reaches_a_target(norm: Any) -> None:
    net, x = network(0), picture(0)
    given = task(net, x, rank=4)
    p = parameters(norm, epsilon=0.4, epsilon_l2=6, steps=60, relative_step_size=0.1)
    found, _ = attacked(net, pgd(given, p))
    assert found.success and predicted(net, found.pixels) == given.aim.target


@pytest.mark.parametrize("norm", NORMS)
def test_no_gradient_moves_nothing(norm: Any) -> None:
    net, x = indifferent(1, 0, 0), picture(0)
    found, _ = attacked(net, pgd(Task(x, Aim(0), 0), parameters(norm, random_start=False)))
    assert found.pixels.equal(x) and not found.success


@pytest.mark.parametrize("norm", NORMS)
def test_it_goes_on_until_the_rounded_picture_succeeds(norm: Any) -> None:
    net, x = undecided(0, by=0.02)
    given, p = task(net, x), parameters(norm, epsilon=0.08, epsilon_l2=0.8)
    early, _ = attacked(net, pgd(given, p))
    late, _ = attacked(net, pgd(task(net, x, stop_at_success=False), p))
    least = (lead(net, given.aim, early.pixels) + lead(net, given.aim, late.pixels)) / 2
    rounding = at_least(net, given.aim, least)
    found, _ = attacked(net, pgd(task(net, x, rounding=rounding), p))
    assert early.success and found.success
    assert early.steps < found.steps < late.steps
    assert lead(net, given.aim, found.pixels) > least
    none, _ = attacked(net, pgd(task(net, x, rounding=lambda _: None), p))
    assert not none.success and none.steps == late.steps


@pytest.mark.parametrize("norm", NORMS)
def test_a_picture_without_bounds_leaves_0_and_1(norm: Any) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(10, 3)).double().requires_grad_(False)
    x = 4 * picture(0, 1, 1, 10) - 2
    p = parameters(norm, epsilon=0.5, epsilon_l2=2)
    given = task(net, x, unbounded=True, stop_at_success=False)
    found, _ = attacked(net, pgd(given, p), 1, 1, 10)
    assert found.pixels.min() < -1 and found.pixels.max() > 1.5
    assert lead(net, given.aim, found.pixels) > lead(net, given.aim, x)


PLAYERS = [
    (methods.NORM_LINF, "LinfPGD", 0.055),
    (methods.NORM_L2, "L2PGD", 0.6),
]


@pytest.mark.parametrize(("norm", "name", "epsilon"), PLAYERS)
def test_it_fools_as_often_as_that_of_foolbox(norm: Any, name: str, epsilon: float) -> None:
    net, pictures, labels = trained()
    player = getattr(foolbox.attacks, name)(rel_stepsize=0.1, steps=20, random_start=True)
    theirs = foolbox_fools(net, pictures, labels, player, epsilon)
    p = parameters(norm, epsilon=epsilon, epsilon_l2=epsilon, steps=20, relative_step_size=0.1)
    assert 0 < theirs < 32
    assert fooled(net, pictures, labels, pgd, p) >= theirs
