"""DeepFool, against its paper, networks without bends, and foolbox."""

from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from convlens.contract import ErrorReason, Failure
from convlens.v1 import attack_methods_pb2 as methods
from convlens.workers.attacks import Aim, Task
from convlens.workers.attacks.deep_fool import deep_fool
from convlens.workers.runner import Answer, Pass
from convlens.workers.runner.asking import Fork
from tests.workers.attacks.fooling import (
    at_least,
    attacked,
    indifferent,
    lead,
    network,
    picture,
    predicted,
    slope,
    task,
    trained,
)
from tests.workers.attacks.oracles import foolbox, foolbox_distances
from tests.workers.attacks.straight import distance_to_boundary, layer_of, linear

NORMS = [methods.NORM_L2, methods.NORM_LINF]


def parameters(norm: Any, **given: Any) -> methods.DeepFool:
    filled: dict[str, Any] = {"steps": 30, "overshoot": 0.02, "candidates": 5}
    return methods.DeepFool(norm=norm, **{**filled, **given})


def reference(net: nn.Module, given: Task, p: methods.DeepFool) -> tuple[Tensor, int]:
    """Algorithm 2 of the paper, one class and one gradient at a time."""
    x, aim = given.x, given.aim
    order = net(x[None])[0].argsort(descending=True).tolist()
    others = [k for k in order if k != aim.original][: p.candidates - 1]
    total = torch.zeros_like(x)
    for step in range(p.steps):
        pixels = (x + (1 + p.overshoot) * total).clamp(0, 1)
        if lead(net, aim, pixels) > 0:
            return pixels, step
        near = (x + total).clamp(0, 1)
        ways: list[tuple[float, Tensor]] = []
        for k in others if aim.target is None else [None]:
            if k is None:
                f, w = slope(net, near, aim.margin)
            else:
                f, w = slope(net, near, lambda o, k=k: o.scores[:, k] - o.scores[:, aim.original])
            if p.norm == methods.NORM_L2:
                ways.append((abs(f) / float(w.norm()), abs(f) * w / w.norm() ** 2))
            else:
                ways.append((abs(f) / float(w.abs().sum()), abs(f) / w.abs().sum() * w.sign()))
        total = total + min(ways, key=lambda way: way[0])[1]
    return (x + (1 + p.overshoot) * total).clamp(0, 1), p.steps


CASES = [{}, {"candidates": 2}, {"candidates": 3, "overshoot": 0.1}, {"candidates": 1000}]


@pytest.mark.parametrize("rank", [None, 2])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("norm", NORMS)
def test_it_takes_the_steps_of_the_paper(norm: Any, case: Any, rank: int | None) -> None:
    taken = 0
    for seed in range(3):
        net, x, p = network(seed), picture(seed), parameters(norm, **case)
        given = task(net, x, rank=rank)
        found, points = attacked(net, deep_fool(given, p))
        pixels, steps = reference(net, given, p)
        torch.testing.assert_close(found.pixels, pixels, rtol=0, atol=1e-9)
        assert found.success and found.steps == steps
        boundaries = 1 if rank else min(p.candidates, 5) - 1
        assert points == steps + 1 + steps * boundaries
        taken += steps
    assert taken > 4, "one step each shows little"


@pytest.mark.parametrize("offset", [0.0, -100.0])
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("norm", "order", "dual"), [(NORMS[0], 2, 2), (NORMS[1], torch.inf, 1)])
def test_a_network_without_bends_takes_one_step_to_its_boundary(
    norm: Any, order: float, dual: float, seed: int, offset: float
) -> None:
    net, x = linear(seed, offset=offset)
    found, _ = attacked(net, deep_fool(task(net, x), parameters(norm)), *x.shape)
    least = distance_to_boundary(net, x, dual)
    assert found.success and found.steps == 1
    distance = float((found.pixels - x).flatten().norm(order))
    assert distance == pytest.approx(1.02 * least, rel=1e-9)


@pytest.mark.parametrize("norm", NORMS)
def test_the_overshoot_of_the_total_crosses_where_bounds_cut_the_steps(norm: Any) -> None:
    # Most values are at a bound that they are driven over, so that each step goes a part of the
    # way, and an overshoot of the last step alone would never cross.
    net, x = linear(1)
    layer = layer_of(net)
    weight = layer.weight
    first, second = net(x[None])[0].argsort(descending=True)[:2].tolist()
    way = (weight[second] - weight[first]).view_as(x)
    held = torch.rand(x.shape, generator=torch.Generator().manual_seed(0)) < 0.8
    x = torch.where(held, (way > 0).double(), x)
    layer.bias[:] = torch.linspace(0.3, 0, 4) - weight @ x.flatten()
    found, _ = attacked(net, deep_fool(task(net, x), parameters(norm)), *x.shape)
    assert found.success and 1 < found.steps < 30


@pytest.mark.parametrize("norm", NORMS)
def test_what_is_a_success_already_is_left_as_it_is(norm: Any) -> None:
    net, x = network(0), picture(0)
    given = Task(x, Aim((predicted(net, x) + 1) % 5), 0)
    found, points = attacked(net, deep_fool(given, parameters(norm)))
    assert found.success and found.steps == 0 and points == 1
    assert found.pixels.equal(x)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("rank", [None, 2])
def test_no_gradient_moves_nothing(norm: Any, rank: int | None) -> None:
    net, x = indifferent(2, 1, 0), picture(0)
    found, _ = attacked(net, deep_fool(task(net, x, rank=rank), parameters(norm)))
    assert found.pixels.equal(x) and not found.success


@pytest.mark.parametrize("norm", NORMS)
def test_black_and_white_move_and_nothing_leaves_the_bounds(norm: Any) -> None:
    net, x = network(3), picture(3)
    found, _ = attacked(net, deep_fool(task(net, x), parameters(norm)))
    assert found.pixels.min() >= 0 and found.pixels.max() <= 1
    for bound in (0, 1):
        assert (found.pixels[x == bound] != bound).any()


@pytest.mark.parametrize("norm", NORMS)
def test_it_goes_on_until_the_rounded_picture_succeeds(norm: Any) -> None:
    net, x = network(1), picture(1)
    early, _ = attacked(net, deep_fool(task(net, x), parameters(norm)))
    least = 2 * lead(net, task(net, x).aim, early.pixels)
    given = task(net, x, rounding=at_least(net, task(net, x).aim, least))
    found, _ = attacked(net, deep_fool(given, parameters(norm)))
    assert early.success and found.success and found.steps > early.steps
    assert lead(net, given.aim, found.pixels) > least
    given = task(net, x, rounding=lambda _: None)
    none, _ = attacked(net, deep_fool(given, parameters(norm, steps=5)))
    assert not none.success and none.steps == 5


@pytest.mark.parametrize("norm", NORMS)
def test_a_picture_without_bounds_leaves_0_and_1(norm: Any) -> None:
    net, x = linear(0)
    x = 8 * x
    given = task(net, x, unbounded=True)
    found, _ = attacked(net, deep_fool(given, parameters(norm)), *x.shape)
    assert found.success and found.pixels.min() > 1


def test_where_it_is_ended_among_its_gradients_it_returns_what_it_has() -> None:
    net, x = network(1), picture(1)
    steps = deep_fool(task(net, x), parameters(NORMS[0]))
    next(steps)
    fork = steps.send(Answer(net(x[None]), {}))
    assert isinstance(fork, Fork) and len(fork.branches) == 4
    asked = [next(branch) for branch in fork.branches]
    [so_far] = {each.so_far for each in asked if isinstance(each, Pass)}
    assert so_far is not None
    ended = so_far()
    with pytest.raises(StopIteration) as end:
        steps.send(cast("Any", [ended] * 4))
    assert end.value.value.pixels.equal(x) and not end.value.value.success


def test_a_gradient_that_fails_fails_it() -> None:
    net, x = network(1), picture(1)
    steps = deep_fool(task(net, x), parameters(NORMS[0]))
    next(steps)
    steps.send(Answer(net(x[None]), {}))
    failure = Failure(ErrorReason.ERROR_REASON_DEADLINE_EXCEEDED, stage="between two passes")
    with pytest.raises(Failure):
        steps.send(cast("Any", [failure] * 4))


PLAYERS = [(NORMS[0], "L2DeepFoolAttack", 2), (NORMS[1], "LinfDeepFoolAttack", torch.inf)]


@pytest.mark.parametrize(("norm", "name", "order"), PLAYERS)
def test_it_fools_as_often_as_that_of_foolbox_and_as_near(
    norm: Any, name: str, order: float
) -> None:
    net, pictures, labels = trained()
    player = getattr(foolbox.attacks, name)(steps=50, candidates=4, overshoot=0.02)
    theirs = foolbox_distances(net, pictures, labels, player, order)
    ours: list[float] = []
    for x, label in zip(pictures, labels, strict=True):
        given = Task(x, Aim(int(label)), 0)
        found, _ = attacked(net, deep_fool(given, parameters(norm, steps=50)), *x.shape)
        assert found.success and predicted(net, found.pixels) != int(label)
        ours.append(float((found.pixels - x).flatten().norm(order)))
    assert torch.tensor(ours).median() <= 1.01 * theirs.median()
