"""APGD, against its paper and torchattacks."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from convlens.contract import Failure
from convlens.v1 import attack_methods_pb2 as methods
from convlens.workers.attacks import Aim, Task
from convlens.workers.attacks.apgd import apgd, check_classes, checkpoints
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
from tests.workers.attacks.oracles import torchattacks_fools

NORMS = [methods.NORM_LINF, methods.NORM_L2]
CROSS_ENTROPY, DLR = methods.ATTACK_LOSS_CROSS_ENTROPY, methods.ATTACK_LOSS_DLR


def parameters(norm: Any, **given: Any) -> methods.APGD:
    filled: dict[str, Any] = {"epsilon": 0.04, "epsilon_l2": 0.4, "steps": 20, "restarts": 1}
    filled |= {"loss": CROSS_ENTROPY, "rho": 0.75, "momentum": 0.75}
    return methods.APGD(norm=norm, **{**filled, **given})


def reference(net: nn.Module, given: Task, p: methods.APGD, start: int = 0) -> tuple[Any, int]:
    """Algorithm 1 of Croce & Hein: all pictures that are seen, and how often the step is halved."""
    loss = given.aim.dlr if p.loss == DLR else given.aim.cross_entropy
    is_linf = p.norm == methods.NORM_LINF
    # As the authors count them; the paper's formula differs where steps are few.
    n = p.steps
    w, period = [0], max(int(0.22 * n), 1)
    while w[-1] + period <= n:
        w.append(w[-1] + period)
        period = max(period - max(int(0.03 * n), 1), int(0.06 * n), 1)
    eta = 2 * (p.epsilon if is_linf else p.epsilon_l2)
    x = [drawn(given.x, p, "apgd", start)]
    f, g = slope(net, x[0], loss)
    x_max, f_max, g_max = x[0], f, g
    seen, etas, f_maxes, rises, halved = [x[0]], {0: eta}, {0: f}, [], 0
    for k in range(p.steps):
        z = projected(given.x, x[k] + eta * (g.sign() if is_linf else g / g.norm()), p)
        if k == 0:
            x.append(z)
        else:
            moved = p.momentum * (z - x[k]) + (1 - p.momentum) * (x[k] - x[k - 1])
            x.append(projected(given.x, x[k] + moved, p))
        seen.append(x[-1])
        before, (f, g) = f, slope(net, x[-1], loss)
        rises.append(f > before)
        if f > f_max:
            x_max, f_max, g_max = x[-1], f, g
        if k + 1 in w[1:]:
            j = w.index(k + 1)
            etas[k + 1], f_maxes[k + 1] = eta, f_max
            first = sum(rises[w[j - 1] : w[j]]) < p.rho * (w[j] - w[j - 1])
            second = etas[w[j - 1]] == etas[w[j]] and f_maxes[w[j - 1]] == f_maxes[w[j]]
            if first or second:
                eta, halved = eta / 2, halved + 1
                x[-1], f, g = x_max, f_max, g_max
    return seen, halved


CASES: list[dict[str, Any]] = [
    {},
    {"steps": 35, "epsilon": 0.1, "epsilon_l2": 1},
    {"rho": 0.3, "momentum": 0.5, "steps": 25},
    {"momentum": 1, "steps": 7},
    {"steps": 1},
    {"steps": 3},
]


LOSSES = [(CROSS_ENTROPY, None), (DLR, None), (DLR, 2)]


@pytest.mark.parametrize(("loss", "rank"), LOSSES)
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("norm", NORMS)
def test_it_takes_the_steps_of_the_paper(norm: Any, case: Any, loss: Any, rank: Any) -> None:
    net, x, p = network(1), picture(1), parameters(norm, loss=loss, **case)
    given = task(net, x, rank=rank, stop_at_success=False)
    found, points = attacked(net, apgd(given, p))
    seen, halved = reference(net, given, p)
    best = max(seen, key=lambda pixels: lead(net, given.aim, pixels))
    assert halved or p.steps < 20, "nothing is shown"
    torch.testing.assert_close(found.pixels, best, rtol=0, atol=1e-9)
    assert points == len(seen) == p.steps + 1
    assert found.steps == p.steps


class Watched(nn.Module):
    """Keeps the pictures that it is shown."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x.detach().clone())
        return self.inner(x)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("seed", range(3))
def test_every_picture_on_its_way_is_that_of_the_paper(norm: Any, seed: int) -> None:
    net, x = Watched(network(seed)), picture(seed)
    p = parameters(norm, steps=30, restarts=2)
    given = task(net.inner, x, stop_at_success=False)
    attacked(net, apgd(given, p))
    seen = [*reference(net.inner, given, p)[0], *reference(net.inner, given, p, start=1)[0]]
    shown = [pixels[0] for pixels in net.seen[-len(seen) :]]
    torch.testing.assert_close(torch.stack(shown), torch.stack(seen), rtol=0, atol=1e-9)


def test_checkpoints_are_those_of_the_paper_and_of_its_authors_where_steps_are_few() -> None:
    assert checkpoints(100) == [22, 41, 57, 70, 80, 87, 93, 99]
    assert checkpoints(20) == [4, 7, 9, *range(10, 21)]
    assert checkpoints(10) == [2, *range(3, 11)]
    assert checkpoints(1) == [1]


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("seed", range(4))
def test_it_ends_at_its_first_success(norm: Any, seed: int) -> None:
    net, x = undecided(seed, by=0.025)
    p = parameters(norm, epsilon_l2=0.6, restarts=5)
    given = task(net, x)
    found, points = attacked(net, apgd(given, p))
    seen, _ = reference(net, given, p)
    first = next(n for n, pixels in enumerate(seen) if lead(net, given.aim, pixels) > 0)
    assert first < p.steps
    assert found.success and points == first + 1 and found.steps == first
    torch.testing.assert_close(found.pixels, seen[first], rtol=0, atol=1e-9)


@pytest.mark.parametrize("loss", [CROSS_ENTROPY, DLR])
@pytest.mark.parametrize("norm", NORMS)
def test_it_reaches_a_target(norm: Any, loss: Any) -> None:
    net, x = network(0), picture(0)
    given = task(net, x, rank=4)
    p = parameters(norm, epsilon=0.4, epsilon_l2=6, steps=60, loss=loss)
    found, _ = attacked(net, apgd(given, p))
    assert found.success and predicted(net, found.pixels) == given.aim.target


@pytest.mark.parametrize("loss", [CROSS_ENTROPY, DLR])
@pytest.mark.parametrize("norm", NORMS)
def test_no_gradient_stays_at_the_start(norm: Any, loss: Any) -> None:
    net, x, p = indifferent(1, 0, 0, 0), picture(0), parameters(norm, loss=loss)
    found, _ = attacked(net, apgd(Task(x, Aim(0), 3), p))
    assert not found.success
    torch.testing.assert_close(found.pixels, drawn(x, p, "apgd", 0), rtol=0, atol=1e-12)


class Scaled(nn.Module):
    """Scores so large that the gradient of cross-entropy is lost."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return 1e4 * self.inner(x)


@pytest.mark.parametrize("norm", NORMS)
def test_dlr_finds_what_scaled_scores_hide_from_cross_entropy(norm: Any) -> None:
    net, pictures, labels = trained()
    hidden, pictures, labels = Scaled(net), pictures[:8], labels[:8]
    given: dict[str, Any] = {"epsilon": 0.06, "epsilon_l2": 0.8}
    plain = fooled(net, pictures, labels, apgd, parameters(norm, loss=DLR, **given))
    scaled = fooled(hidden, pictures, labels, apgd, parameters(norm, loss=DLR, **given))
    blind = fooled(hidden, pictures, labels, apgd, parameters(norm, **given))
    assert scaled == plain > blind


@pytest.mark.parametrize("norm", NORMS)
def test_it_goes_on_until_the_rounded_picture_succeeds(norm: Any) -> None:
    net, x = undecided(0, by=0.02)
    given, p = task(net, x), parameters(norm, epsilon=0.06, epsilon_l2=0.6)
    early, _ = attacked(net, apgd(given, p))
    late, _ = attacked(net, apgd(task(net, x, stop_at_success=False), p))
    least = (lead(net, given.aim, early.pixels) + lead(net, given.aim, late.pixels)) / 2
    rounding = at_least(net, given.aim, least)
    found, _ = attacked(net, apgd(task(net, x, rounding=rounding), p))
    assert early.success and found.success
    assert early.steps < found.steps < late.steps
    assert lead(net, given.aim, found.pixels) > least
    none, _ = attacked(net, apgd(task(net, x, rounding=lambda _: None), p))
    assert not none.success and none.steps == late.steps


def test_dlr_takes_three_classes_and_with_a_target_four() -> None:
    p = parameters(methods.NORM_LINF, loss=DLR)
    check_classes(p, 3, is_targeted=False, path="method.apgd")
    check_classes(p, 4, is_targeted=True, path="method.apgd")
    check_classes(parameters(methods.NORM_LINF), 2, is_targeted=True, path="method.apgd")
    for classes, is_targeted in [(2, False), (3, True)]:
        with pytest.raises(Failure) as caught:
            check_classes(p, classes, is_targeted, "method.apgd")
        [violation] = caught.value.violations
        assert violation.field == "method.apgd.loss"
        assert f"at least {classes + 1} classes" in violation.description


PLAYERS = [
    (methods.NORM_LINF, "Linf", CROSS_ENTROPY, "ce", 0.055),
    (methods.NORM_LINF, "Linf", DLR, "dlr", 0.055),
    (methods.NORM_L2, "L2", CROSS_ENTROPY, "ce", 0.8),
    (methods.NORM_L2, "L2", DLR, "dlr", 0.8),
]


@pytest.mark.parametrize(("norm", "their_norm", "loss", "their_loss", "epsilon"), PLAYERS)
def test_it_fools_as_often_as_that_of_torchattacks(
    norm: Any, their_norm: str, loss: Any, their_loss: str, epsilon: float
) -> None:
    net, pictures, labels = trained()
    theirs = torchattacks_fools(
        net, pictures, labels, "APGD", norm=their_norm, eps=epsilon, steps=20, loss=their_loss
    )
    p = parameters(norm, loss=loss, epsilon=epsilon, epsilon_l2=epsilon)
    assert 0 < theirs < 32
    assert fooled(net, pictures, labels, apgd, p) >= theirs
