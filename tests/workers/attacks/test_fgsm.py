"""FGSM, against its paper, a worked example and foolbox."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from convlens.v1 import attack_methods_pb2 as methods
from convlens.workers.attacks import Aim, Task
from convlens.workers.attacks.fgsm import fgsm
from tests.workers.attacks.fooling import (
    attacked,
    fooled,
    indifferent,
    network,
    picture,
    predicted,
    sixteenths,
    task,
    trained,
    undecided,
)
from tests.workers.attacks.oracles import foolbox, foolbox_fools


def sign_of_gradient(network: nn.Module, x: Tensor, label: int) -> Tensor:
    """Of the cross-entropy of a label."""
    x = x.clone().requires_grad_()
    F.cross_entropy(network(x[None]), torch.tensor([label])).backward()
    assert x.grad is not None and x.grad.abs().min() > 0
    return x.grad.sign()


@pytest.mark.parametrize("seed", range(3))
def test_it_is_a_step_up_the_loss_of_the_class(seed: int) -> None:
    net, x = network(seed), picture(seed)
    label = predicted(net, x)
    found, points = attacked(net, fgsm(task(net, x), methods.FGSM(epsilon=0.03)))
    expected = (x + 0.03 * sign_of_gradient(net, x, label)).clamp(0, 1)
    torch.testing.assert_close(found.pixels, expected, rtol=0, atol=1e-9)
    assert found.success == (predicted(net, expected) != label)
    assert (points, found.steps) == (2, 1)


@pytest.mark.parametrize("rank", [1, 4])
@pytest.mark.parametrize("seed", range(3))
def test_with_a_target_it_is_a_step_down_its_loss(seed: int, rank: int) -> None:
    net, x = network(seed), picture(seed)
    target = int(net(x[None])[0].argsort(descending=True)[rank])
    found, _ = attacked(net, fgsm(task(net, x, rank=rank), methods.FGSM(epsilon=0.1)))
    expected = (x - 0.1 * sign_of_gradient(net, x, target)).clamp(0, 1)
    torch.testing.assert_close(found.pixels, expected, rtol=0, atol=1e-9)
    assert found.success == (predicted(net, expected) == target)


def test_the_linear_classifier_of_the_lecture() -> None:
    x = torch.tensor([2.0, -1, 3, -2, 2, 2, 1, -4, 5, 1], dtype=torch.float64)
    w = torch.tensor([-1.0, -1, 1, -1, 1, -1, 1, 1, -1, 1], dtype=torch.float64)
    last = nn.Linear(10, 2, bias=False).requires_grad_(False)
    last.weight.copy_(torch.stack([-w / 2, w / 2]))
    net = nn.Sequential(nn.Flatten(), last).double()
    given = Task(x.reshape(1, 1, 10), Aim(0), seed=0, unbounded=True)
    found, _ = attacked(net, fgsm(given, methods.FGSM(epsilon=0.5)), 1, 1, 10)
    moved = [1.5, -1.5, 3.5, -2.5, 2.5, 1.5, 1.5, -3.5, 4.5, 1.5]
    assert found.pixels.flatten().tolist() == moved
    assert found.success
    before, after = (net(v.reshape(1, 1, 1, 10)).softmax(1)[0, 1] for v in (x, found.pixels))
    assert float(before) == pytest.approx(0.0474, abs=5e-5)
    assert float(after) == pytest.approx(0.88, abs=5e-3)


def test_no_gradient_moves_nothing() -> None:
    x = picture(0)
    found, _ = attacked(indifferent(1, 0, 0), fgsm(Task(x, Aim(0), 0), methods.FGSM(epsilon=0.1)))
    assert found.pixels.equal(x)


class Normalised(nn.Module):
    """A network that normalises its pixels itself."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.std = torch.tensor([0.05, -2.0, 40.0], dtype=torch.float64)[:, None, None]

    def forward(self, x: Tensor) -> Tensor:
        return self.inner((x - 0.4) / self.std)


def test_the_budget_is_one_of_pixels_whatever_the_network_makes_of_them() -> None:
    net, x = Normalised(network(1)), picture(1)
    found, _ = attacked(net, fgsm(task(net, x), methods.FGSM(epsilon=0.01)))
    expected = (x + 0.01 * sign_of_gradient(net, x, predicted(net, x))).clamp(0, 1)
    torch.testing.assert_close(found.pixels, expected, rtol=0, atol=1e-9)
    # The gradient goes through the normalisation: its second channel is turned round.
    normalised = (x - 0.4) / net.std
    inside = sign_of_gradient(net.inner, normalised, predicted(net, x))
    assert (found.pixels - x)[1].sign().equal(-inside[1] * (found.pixels != x)[1])


def test_only_what_succeeds_after_rounding_counts() -> None:
    undone = 0
    for seed in range(12):
        net, x = undecided(seed, by=0.02)
        given = methods.FGSM(epsilon=0.03)
        plain, _ = attacked(net, fgsm(task(net, x), given))
        rounded, points = attacked(net, fgsm(task(net, x, rounding=sixteenths), given))
        survives = predicted(net, sixteenths(plain.pixels)) != predicted(net, x)
        assert rounded.pixels.equal(plain.pixels)
        assert rounded.success == (plain.success and survives)
        assert points == 2 + plain.success
        undone += plain.success and not survives
    assert undone


def test_what_cannot_be_rounded_is_no_success() -> None:
    net, x = network(0), picture(0)
    given = methods.FGSM(epsilon=0.5)
    assert attacked(net, fgsm(task(net, x), given))[0].success
    assert not attacked(net, fgsm(task(net, x, rounding=lambda _: None), given))[0].success


@pytest.mark.parametrize("epsilon", [0.04, 0.05, 0.06])
def test_it_fools_as_often_as_that_of_foolbox(epsilon: float) -> None:
    net, pictures, labels = trained()
    theirs = foolbox_fools(net, pictures, labels, foolbox.attacks.LinfFastGradientAttack(), epsilon)
    ours = fooled(net, pictures, labels, fgsm, methods.FGSM(epsilon=epsilon))
    assert 0 < theirs < 32
    assert ours >= theirs
