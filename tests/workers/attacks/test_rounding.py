"""The nearest 8-bit picture within a budget, against a search over every value."""

import itertools

import pytest
import torch
from torch import Tensor

from convlens.workers.adversarial.rounding import floats, rounded
from convlens.workers.attacks import Aim, Task
from convlens.workers.attacks.budget import L2, Linf

AIM = Aim(0)


def eight_bit(seed: int, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, shape, generator=generator).float() / 255


def test_without_a_budget_it_is_plain_rounding() -> None:
    pixels = torch.rand(3, 4, 5, generator=torch.Generator().manual_seed(0))
    found = rounded(pixels, None)
    assert found is not None and found.dtype == torch.uint8
    assert float((floats(found) - pixels).abs().max()) <= 0.5 / 255 + 1e-7


@pytest.mark.parametrize("steps", [1, 8, 40])
def test_whole_steps_are_allowed_whatever_their_rounding(steps: int) -> None:
    x = eight_bit(1, 3, 6, 6)
    budget = Linf(Task(x, AIM, 0), steps / 255)
    away = budget.project(x + torch.where(x > 0.5, -1.0, 1.0))
    found = rounded(away, budget)
    assert found is not None
    moved = (found.long() - (x * 255).round().long()).abs()
    assert int(moved.min()) == int(moved.max()) == steps


def test_below_one_step_there_is_only_the_original() -> None:
    x = eight_bit(2, 1, 3, 3)
    assert rounded(x, Linf(Task(x, AIM, 0), 0.9 / 255)) is None
    assert rounded(x, L2(Task(x, AIM, 0), 0.9 / 255)) is None


def test_an_original_between_two_values_stays_within_its_budget() -> None:
    x = torch.tensor([[[0.3 / 255, 10.4 / 255, 254.7 / 255]]])
    budget = Linf(Task(x, AIM, 0), 1 / 255)
    found = rounded(budget.project(x + 1), budget)
    assert found is not None
    assert found.flatten().tolist() == [1, 11, 255]


@pytest.mark.parametrize("seed", range(20))
def test_in_length_it_is_near_the_best_of_all_choices(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = eight_bit(seed, 1, 1, 6).clamp(0.1, 0.9)
    task = Task(x, AIM, 0)
    budget = L2(task, 2.2 / 255)
    pixels = budget.project(x + torch.randn(1, 1, 6, generator=generator) / 255)
    found = rounded(pixels, budget)
    exact, wanted = (x.double() * 255).flatten(), (pixels.double() * 255).flatten()
    choices = itertools.product(*((int(v), int(v) + 1) for v in wanted))
    allowed = [
        float((torch.tensor(c) - wanted).square().sum())
        for c in choices
        if float((torch.tensor(c) - exact).square().sum().sqrt()) <= 2.2 + 1e-4
    ]
    if found is None:
        assert not allowed
        return
    change = found.flatten().double() - exact
    assert float(change.square().sum().sqrt()) <= 2.2 + 1e-3
    assert allowed
    assert float((found.flatten().double() - wanted).square().sum()) <= min(allowed) + 1.5
