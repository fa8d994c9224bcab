"""How far attacks go: bounds hold exactly, and projections are the nearest points."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from convlens.v1 import attack_methods_pb2 as methods
from convlens.workers.attacks import Aim, Task
from convlens.workers.attacks.budget import L2, Budget, Linf, budget_of, length_of
from tests.workers.attacks.fooling import picture
from tests.workers.attacks.nearby import nearest_in_l2

DTYPES = [torch.float32, torch.float64]
BUDGETS = [Linf, L2]
RARELY = settings(max_examples=50, deadline=None)
EPSILONS = st.floats(1e-9, 1) | st.sampled_from([0.5 / 255, 1 / 255, 8 / 255, 0.1, 0.3, 1.0])


def task(x: Tensor, **options: Any) -> Task:
    return Task(x, Aim(0), seed=1, **options)


def size(budget: Budget, pixels: Tensor) -> float:
    """Of the change, in the budget's norm, in double precision."""
    change = pixels.double() - budget.x.double()
    return float(change.abs().max()) if isinstance(budget, Linf) else length_of(change)


def far(x: Tensor, seed: int, scale: float) -> Tensor:
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed)).to(x)
    return x + scale * noise


@pytest.mark.parametrize("kind", BUDGETS)
@pytest.mark.parametrize("dtype", DTYPES)
@RARELY
@given(epsilon=EPSILONS, seed=st.integers(0, 10**6), scale=st.sampled_from([1e-3, 0.1, 1, 100]))
def test_bounds_hold_exactly(
    kind: Any, dtype: Any, epsilon: float, seed: int, scale: float
) -> None:
    x = picture(seed, 2, 3, 4).to(dtype)
    budget = kind(task(x), epsilon)
    for found in [budget.project(far(x, seed, scale)), budget.random(seed)]:
        assert found.dtype == dtype
        assert size(budget, found) <= epsilon
        assert found.min() >= 0 and found.max() <= 1


@pytest.mark.parametrize("kind", BUDGETS)
@pytest.mark.parametrize("dtype", DTYPES)
@RARELY
@given(epsilon=EPSILONS, seed=st.integers(0, 10**6))
def test_bounds_hold_exactly_without_a_box(
    kind: Any, dtype: Any, epsilon: float, seed: int
) -> None:
    x = 10 * picture(seed, 1, 1, 9).to(dtype) - 5
    budget = kind(task(x, unbounded=True), epsilon)
    for found in [budget.project(far(x, seed, 3.0)), budget.random(seed)]:
        assert size(budget, found) <= epsilon


@pytest.mark.parametrize("kind", BUDGETS)
@pytest.mark.parametrize("dtype", DTYPES)
@RARELY
@given(value=st.floats(0, 1, width=32), epsilon=EPSILONS)
def test_bounds_hold_exactly_for_any_value(
    kind: Any, dtype: Any, value: float, epsilon: float
) -> None:
    budget = kind(task(torch.full((1, 1, 1), value, dtype=dtype)), epsilon)
    for end in (-7.0, 7.0):
        assert size(budget, budget.project(torch.full((1, 1, 1), end, dtype=dtype))) <= epsilon


@pytest.mark.parametrize("kind", BUDGETS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_rounded_off_is_little(kind: Any, dtype: Any) -> None:
    x = picture(0).to(dtype) * 0.8 + 0.1
    budget = kind(task(x), 0.05)
    assert size(budget, budget.project(far(x, 0, 1))) >= 0.05 * (1 - 1e-5)


@pytest.mark.parametrize("kind", BUDGETS)
def test_what_is_allowed_stays_as_it_is(kind: Any) -> None:
    x = picture(0)
    budget = kind(task(x), 0.3)
    allowed = (x + 0.001 * (picture(1) - 0.5)).clamp(0, 1)
    assert budget.project(allowed).equal(allowed)
    assert budget.project(x).equal(x)


@pytest.mark.parametrize("epsilon", [0.01, 0.5, 3, 10, 14])
@pytest.mark.parametrize("seed", range(4))
def test_the_projection_in_l2_is_the_nearest_point(epsilon: float, seed: int) -> None:
    x = picture(seed)
    pixels = far(x, seed, 0.7)
    found = L2(task(x), epsilon).project(pixels)
    assert not found.equal(x)
    torch.testing.assert_close(found, nearest_in_l2(x, pixels, epsilon), rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", BUDGETS)
def test_nothing_allowed_is_nearer_than_the_projection(kind: Any) -> None:
    x = picture(5)
    pixels = far(x, 5, 1)
    budget = kind(task(x), 0.4)
    found = budget.project(pixels)
    for seed in range(50):
        other = budget.project(far(found, seed, 0.05))
        assert (other - pixels).norm() >= (found - pixels).norm() - 1e-9


def test_random_pictures_are_even_in_a_ball() -> None:
    x = torch.zeros(1, 1, 2, dtype=torch.float64)
    budget = L2(task(x, unbounded=True), 0.5)
    lengths = torch.tensor([length_of(budget.random("ball", n)) for n in range(600)])
    for share in (0.3, 0.5, 0.8):
        assert float((lengths < 0.5 * share).double().mean()) == pytest.approx(share**2, abs=0.06)


def test_random_pictures_are_even_in_a_cube() -> None:
    budget = Linf(task(torch.full((3, 20, 20), 0.5, dtype=torch.float64)), 0.2)
    change = (budget.random("cube") - 0.5) / 0.2
    assert float(change.mean()) == pytest.approx(0, abs=0.05)
    assert float(change.square().mean()) == pytest.approx(1 / 3, abs=0.03)


@pytest.mark.parametrize("kind", BUDGETS)
def test_random_pictures_depend_on_what_they_are_for(kind: Any) -> None:
    budget = kind(task(picture(0)), 0.1)
    assert budget.random(1, "pgd", 0).equal(budget.random(1, "pgd", 0))
    assert not budget.random(1, "pgd", 0).equal(budget.random(1, "pgd", 1))
    assert not budget.random(1, "pgd", 0).equal(budget.random(2, "pgd", 0))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", [1e-30, 1, 1e30])
def test_directions_have_length_1(dtype: Any, scale: float) -> None:
    x = picture(0).to(dtype)
    slope = (far(x, 0, 1) - x) * scale
    assert length_of(L2(task(x), 1).direction(slope)) == pytest.approx(1, abs=1e-5)
    assert Linf(task(x), 1).direction(slope).equal(slope.sign())


@pytest.mark.parametrize("kind", BUDGETS)
def test_no_gradient_is_no_direction(kind: Any) -> None:
    nowhere = kind(task(picture(0)), 1).direction(torch.zeros(3, 12, 12))
    assert nowhere.equal(torch.zeros(3, 12, 12))


def test_each_norm_has_its_own_epsilon() -> None:
    given = SimpleNamespace(norm=methods.NORM_L2, epsilon=0.1, epsilon_l2=2.0)
    found = budget_of(task(picture(0)), given)
    assert isinstance(found, L2) and found.epsilon == 2.0
    given.norm = methods.NORM_LINF
    found = budget_of(task(picture(0)), given)
    assert isinstance(found, Linf) and found.epsilon == 0.1


def test_an_epsilon_of_8_by_255_is_8_grey_levels() -> None:
    levels = torch.randint(0, 256, (3, 9, 9), generator=torch.Generator().manual_seed(0))
    x = (levels / 255).float()
    found = Linf(task(x), 8 / 255).project(far(x, 0, 1))
    changes = ((found * 255).round() - levels).abs()
    assert changes.max() == 8
