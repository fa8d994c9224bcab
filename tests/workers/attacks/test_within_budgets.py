"""What holds for every attack that moves pixels step by step within a budget."""

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch

from convlens.v1 import attack_methods_pb2 as methods
from convlens.workers.attacks import Attempt, Task
from convlens.workers.attacks.apgd import apgd
from convlens.workers.attacks.pgd import pgd
from convlens.workers.attacks.square import square
from convlens.workers.runner import Steps
from tests.workers.attacks import test_apgd, test_pgd, test_square
from tests.workers.attacks.fooling import attacked, network, picture, task

NORMS = [methods.NORM_LINF, methods.NORM_L2]


class Attack(NamedTuple):
    """An attack, its parameters, those of a short one, and its budget in L2."""

    begin: Callable[[Task, Any], Steps[Attempt]]
    parameters: Callable[..., Any]
    short: dict[str, int]
    epsilon_l2: float


ATTACKS = {
    "pgd": Attack(pgd, test_pgd.parameters, {"steps": 2}, 0.4),
    "apgd": Attack(apgd, test_apgd.parameters, {"steps": 2}, 0.4),
    "square": Attack(square, test_square.parameters, {"queries": 3}, 0.6),
}


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", ATTACKS)
def test_a_seed_gives_the_same_and_another_gives_another(name: str, norm: Any) -> None:
    attack = ATTACKS[name]
    net, x, p = network(0), picture(0), attack.parameters(norm, **attack.short)
    first, again, other = (attacked(net, attack.begin(task(net, x, s), p))[0] for s in (1, 1, 2))
    assert first.pixels.equal(again.pixels)
    assert not first.pixels.equal(other.pixels)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", ATTACKS)
def test_a_picture_of_single_precision_keeps_its_bounds(name: str, norm: Any) -> None:
    attack = ATTACKS[name]
    net, x = network(2), picture(2).float()
    given = task(net, x.double(), stop_at_success=False)
    found, _ = attacked(net, attack.begin(Task(x, given.aim, 0), attack.parameters(norm)))
    change = found.pixels.double() - x.double()
    assert found.pixels.dtype == torch.float32 and change.abs().max() > 0
    if norm == methods.NORM_LINF:
        assert change.abs().max() <= 0.04
    else:
        assert change.square().sum().sqrt() <= attack.epsilon_l2
    assert found.pixels.min() >= 0 and found.pixels.max() <= 1
