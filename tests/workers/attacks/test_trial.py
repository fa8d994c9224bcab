"""One image under one attack at several budgets, against trying each of them apart."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from convlens.contract import with_defaults
from convlens.v1 import adversarial_pb2 as pb
from convlens.v1 import attack_methods_pb2 as methods
from convlens.workers.adversarial.registry import Attack
from convlens.workers.adversarial.trial import Trial
from convlens.workers.adversarial.verdict import Judged
from convlens.workers.adversarial.view import View
from convlens.workers.adversarial.watching import Watched
from convlens.workers.attacks import Attempt, Task
from tests.workers.attacks.fooling import attacked, indifferent, network, picture, task, undecided
from tests.workers.methods.small import Small, run

EPSILONS = [0.004, 0.008, 0.016, 0.032, 0.064, 0.128]
LENGTHS = [0.04, 0.08, 0.16, 0.32, 0.64, 1.28]
WITHIN: dict[str, Any] = {
    "fgsm": {},
    "pgd": {"steps": 8, "relative_step_size": 0.3},
    "apgd": {"steps": 4},
    "square": {"queries": 40},
}
NEAREST: dict[str, Any] = {
    "deep_fool": {},
    "carlini_wagner": {"steps": 40, "search_steps": 3, "initial_c": 10},
    "lbfgs": {"steps": 5, "search_steps": 2},
}


def trial(net: nn.Module, x: Tensor, name: str, **plan: Any) -> tuple[Trial, Task, Small]:
    given = {**WITHIN, **NEAREST}[name]
    method = with_defaults(methods.AttackMethod(**{name: given}))
    asked = pb.RobustnessPlan(attacks=[method], epsilons=EPSILONS, epsilons_l2=LENGTHS, **plan)
    body, aim = Small(net), task(net, x)
    scores = net(x[None])[0]
    clean = Judged(x, aim.aim, Attempt(x, 0, False), scores, Watched())
    made = Trial(asked, method, View(x), body, aim, clean)
    return made, aim, body


def probability(net: nn.Module, given: Task, x: Tensor) -> float:
    return float(net(x[None])[0].softmax(0)[given.aim.original])


def apart(net: nn.Module, given: Task, name: str, epsilon: float) -> tuple[bool, float, Tensor]:
    """Success, probability of the true class and pixels of the attack at one budget."""
    parameters = with_defaults(methods.AttackMethod(**{name: WITHIN[name]}))
    getattr(parameters, name).epsilon = epsilon
    found, _ = attacked(net, Attack(parameters).begin(given))
    return found.success, probability(net, given, found.pixels), found.pixels


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("name", WITHIN)
def test_the_smallest_budget_is_the_first_that_is_enough(name: str, seed: int) -> None:
    net, x = undecided(seed, by=0.01)
    made, given, body = trial(net, x, name)
    run(body, made.run())
    least, smallest, distance = probability(net, given, x), None, 0.0
    for epsilon, found in zip(EPSILONS, made.least, strict=True):
        if smallest is None or name == "fgsm":
            success, chance, pixels = apart(net, given, name, epsilon)
            least = min(least, chance)
            if success and smallest is None:
                smallest = epsilon
                distance = float((pixels - x).abs().max())
        assert found == pytest.approx(least, rel=1e-12)
    assert smallest is not None and smallest > EPSILONS[0], "too easy, or too hard"
    assert made.smallest.epsilon == smallest
    assert made.smallest.distance.linf == pytest.approx(distance, rel=1e-12)


@pytest.mark.parametrize("name", NEAREST)
def test_what_looks_for_the_smallest_change_is_run_once(name: str) -> None:
    net, x = undecided(0, by=0.01)
    made, given, body = trial(net, x, name)
    run(body, made.run())
    found, points = attacked(net, Attack(made._method).begin(given))
    # Judged once as it is and once in 8 bits.
    assert body.points == points + 2
    length = float((found.pixels - x).norm())
    enough = [budget for budget in LENGTHS if budget >= length]
    assert found.success and 0 < len(enough) < len(LENGTHS)
    assert made.smallest.epsilon == enough[0]
    assert made.smallest.distance.l2 == pytest.approx(length)
    clean = probability(net, given, x)
    assert [least < clean for least in made.least] == [b >= length for b in LENGTHS]


def test_one_gradient_serves_every_budget_of_fgsm() -> None:
    net, x = undecided(1, by=0.01)
    made, _, _ = trial(net, x, "fgsm")
    steps: Any = made.run()
    fork = next(steps)
    wanted = [next(branch) for branch in fork.branches]
    inner = [next(each.branches[0]) for each in wanted]
    first = inner[0]
    assert len(inner) == len(EPSILONS) and first.objective is not None
    for each in inner:
        assert torch.equal(each.points, first.points) and each.kind == first.kind
        assert each.objective == first.objective, "what is the same is computed once"


def test_an_attack_that_never_succeeds_has_no_budget() -> None:
    net, x = indifferent(3.0, 1.0, 0.0), picture(0)
    made, _, body = trial(net, x, "pgd")
    run(body, made.run())
    assert not made.smallest.HasField("epsilon") and not made.smallest.HasField("distance")
    assert list(made.smallest.flags) == [pb.ATTACK_FLAG_ZERO_GRADIENT]
    assert len(set(made.least)) == 1


@pytest.mark.parametrize("name", ["pgd", "deep_fool"])
def test_where_rounding_must_hold_the_rounded_picture_counts(name: str) -> None:
    net, x = undecided(2, by=0.01)
    x = (x * 255).round() / 255
    made, _, body = trial(net, x, name, require_rounded=True)
    run(body, made.run())
    plain, _, other = trial(net, x, name)
    run(other, plain.run())
    assert made.smallest.HasField("epsilon")
    assert made.smallest.epsilon >= plain.smallest.epsilon
    steps = made.smallest.distance.linf * 255
    assert steps >= 0.99 and abs(steps - round(steps)) < 1e-3, "whole steps of 1/255"


def test_another_seed_is_another_start() -> None:
    net, x = network(3), picture(3)
    results: list[float] = []
    for seed in (1, 1, 2):
        made, given, body = trial(net, x, "square")
        made._task = Task(given.x, given.aim, seed)
        run(body, made.run())
        results.append(made.least[-1])
    assert results[0] == results[1] != results[2]
