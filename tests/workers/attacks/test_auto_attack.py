"""Auto: what each of its attacks is for, on networks that hide their gradients."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from convlens.contract import with_defaults
from convlens.v1 import adversarial_pb2 as pb
from convlens.v1 import attack_methods_pb2 as methods
from convlens.workers.adversarial.watching import Watched
from convlens.workers.attacks import Aim, Attempt, Task
from convlens.workers.attacks.auto_attack import auto_attack
from tests.workers.methods.small import Small, run

SIDE = 10


class Scaled(nn.Module):
    """Its softmax is so sharp that cross-entropy has no gradient."""

    def forward(self, scores: Tensor) -> Tensor:
        return scores * 1e4


class Rounded(nn.Module):
    """Pixels of few levels, which let no gradient through."""

    def forward(self, x: Tensor) -> Tensor:
        return (x * 16).round() / 16


class Shaken(nn.Module):
    """Another size, at random, each time."""

    def forward(self, x: Tensor) -> Tensor:
        side = int(torch.randint(SIDE - 3, SIDE + 1, ()))
        smaller = nn.functional.interpolate(x, side, mode="bilinear")
        return nn.functional.interpolate(smaller, SIDE, mode="bilinear")


def undecided(before: nn.Module | None = None, behind: nn.Module | None = None) -> nn.Module:
    """A small network whose classes are near each other."""
    torch.manual_seed(3)
    layers = [nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 8 * 8, 5)]
    return nn.Sequential(before or nn.Identity(), *layers, behind or nn.Identity())


def attacked(module: nn.Module, x: Tensor, **p: Any) -> tuple[Attempt, Watched, Aim]:
    body = Small(module, (3, SIDE, SIDE))
    torch.manual_seed(0)
    aim = Aim(int(body.scores(x[None].double()).argmax()))
    watched = Watched()
    given: dict[str, Any] = {"epsilon": 0.05, "steps": 10, "target_classes": 2, "queries": 300} | p
    asked = with_defaults(methods.AutoAttack(**given))
    task = Task(x.double(), aim, seed=0)
    return run(body, watched.over(auto_attack(task, asked))), watched, aim


@pytest.fixture
def x() -> Tensor:
    return torch.rand(3, SIDE, SIDE, generator=torch.Generator().manual_seed(5))


def test_the_first_attack_is_enough_for_a_plain_network(x: Tensor) -> None:
    found, watched, aim = attacked(undecided(), x)
    assert found.success and found.by == "APGD, cross-entropy"
    assert not found.flags and not watched.is_flat
    scores = undecided().double()(found.pixels[None])
    assert int(scores.argmax()) != aim.original
    assert float((found.pixels - x.double()).abs().max()) <= 0.05


def test_sharp_scores_are_broken_and_flagged(x: Tensor) -> None:
    found, watched, _ = attacked(undecided(behind=Scaled()), x)
    assert watched.is_flat, "cross-entropy has no gradient there"
    assert found.success and found.by == "APGD, targeted"


def test_rounding_without_a_gradient_is_broken_and_flagged(x: Tensor) -> None:
    found, watched, _ = attacked(undecided(before=Rounded()), x, epsilon=0.15, queries=1000)
    assert watched.is_flat
    assert found.success and found.by == "Square"
    assert found.flags == {pb.ATTACK_FLAG_BLACK_BOX_STRONGER}


def test_random_resizing_is_broken_and_flagged(x: Tensor) -> None:
    found, _, _ = attacked(undecided(before=Shaken()), x, epsilon=0.15, gradient_samples=4)
    assert found.success
    assert pb.ATTACK_FLAG_RANDOMNESS in found.flags


def test_averaged_gradients_are_those_of_a_network_that_does_not_draw(x: Tensor) -> None:
    once, watched, _ = attacked(undecided(), x, epsilon=0.01)
    more, twice, _ = attacked(undecided(), x, epsilon=0.01, gradient_samples=3)
    assert not once.success
    assert torch.allclose(once.pixels, more.pixels)
    assert twice.cost.backward_passes == 3 * watched.cost.backward_passes


def test_where_nothing_succeeds_that_is_said(x: Tensor) -> None:
    blind = nn.Linear(3 * SIDE * SIDE, 5)
    nn.init.zeros_(blind.weight)
    found, watched, _ = attacked(nn.Sequential(nn.Flatten(), blind), x, queries=20)
    assert not found.success and found.by == ""
    assert watched.is_flat and bool(found.pixels.isfinite().all())


def test_a_target_is_pursued_by_all(x: Tensor) -> None:
    body = Small(undecided(), (3, SIDE, SIDE))
    order = body.scores(x[None].double())[0].argsort(descending=True)
    aim = Aim(int(order[0]), int(order[2]))
    asked = with_defaults(methods.AutoAttack(epsilon=0.2, steps=20, queries=20))
    found = run(body, auto_attack(Task(x.double(), aim, seed=0), asked))
    assert found.success
    assert int(body.scores(found.pixels[None]).argmax()) == aim.target
