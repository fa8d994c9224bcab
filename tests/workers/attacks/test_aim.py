"""The losses of attacks, against closed forms and torch's own."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from convlens.workers.attacks import Aim
from convlens.workers.runner import Outputs

SCORES = torch.tensor([[3.0, 1.0, 2.5, -4.0], [0.0, 5.0, 4.0, 4.5]], dtype=torch.float64)
AIMS = [Aim(0), Aim(2), Aim(0, 2), Aim(1, 3)]


def scores(seed: int, scale: float = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(6, 7, generator=generator, dtype=torch.float64)


def gradient(loss: Any, at: Tensor) -> Tensor:
    at = at.clone().requires_grad_()
    [found] = torch.autograd.grad(loss(Outputs(at, {})).sum(), at)
    return found


def test_the_lead_is_that_of_the_best_other_class() -> None:
    assert Aim(0).lead(SCORES).tolist() == [2.5 - 3.0, 5.0 - 0.0]
    assert Aim(2).lead(SCORES).tolist() == [3.0 - 2.5, 5.0 - 4.0]


def test_with_a_target_the_lead_is_that_of_the_target() -> None:
    assert Aim(0, 2).lead(SCORES).tolist() == [2.5 - 3.0, 4.0 - 5.0]
    assert Aim(3, 1).lead(SCORES).tolist() == [1.0 - 3.0, 5.0 - 4.5]


def test_the_lead_is_right_where_all_scores_are_negative() -> None:
    assert Aim(1).lead(torch.tensor([[-5.0, -1.0, -3.0]])).tolist() == [-2.0]


def test_a_lead_is_what_is_reached_and_a_tie_is_not() -> None:
    ties = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.1, 0.0], [1.0, 0.9, 0.0]])
    assert Aim(0).reached(ties).tolist() == [False, True, False]
    assert Aim(0, 1).reached(ties).tolist() == [False, True, False]


@pytest.mark.parametrize("seed", range(3))
def test_reached_is_what_the_largest_score_says(seed: int) -> None:
    found = scores(seed)
    assert Aim(3).reached(found).equal(found.argmax(1) != 3)
    assert Aim(3, 5).reached(found).equal(found.argmax(1) == 5)


def test_the_margin_is_the_lead() -> None:
    assert Aim(1, 2).margin(Outputs(SCORES, {})).equal(Aim(1, 2).lead(SCORES))


@pytest.mark.parametrize("seed", range(3))
def test_cross_entropy_is_that_of_torch(seed: int) -> None:
    outputs = Outputs(scores(seed), {})
    for index in range(7):
        labels = torch.full((6,), index)
        theirs = F.cross_entropy(outputs.scores, labels, reduction="none")
        torch.testing.assert_close(Aim(index).cross_entropy(outputs), theirs)
        other = (index + 1) % 7
        torch.testing.assert_close(Aim(other, index).cross_entropy(outputs), -theirs)


@pytest.mark.parametrize("seed", range(3))
def test_the_dlr_is_that_of_the_paper(seed: int) -> None:
    found = scores(seed)
    for row in found:
        z, s = row.tolist(), sorted(row.tolist(), reverse=True)
        for y in range(7):
            others = max(z[:y] + z[y + 1 :])
            expected = -(z[y] - others) / (s[0] - s[2])
            assert float(Aim(y).dlr(Outputs(row[None], {}))) == pytest.approx(expected, rel=1e-12)
            t = (y + 3) % 7
            expected = -(z[y] - z[t]) / (s[0] - (s[2] + s[3]) / 2)
            ours = float(Aim(y, t).dlr(Outputs(row[None], {})))
            assert ours == pytest.approx(expected, rel=1e-12)


def test_the_dlr_of_a_classified_picture_is_between_minus_1_and_0() -> None:
    found = scores(1)
    for row in found:
        value = float(Aim(int(row.argmax())).dlr(Outputs(row[None], {})))
        assert -1 <= value <= 0


@pytest.mark.parametrize("aim", AIMS)
def test_no_scale_and_no_shift_changes_the_dlr_or_where_it_leads(aim: Aim) -> None:
    plain, changed = scores(0), 1e4 * scores(0) + 17
    torch.testing.assert_close(
        aim.dlr(Outputs(plain, {})), aim.dlr(Outputs(changed, {})), rtol=1e-9, atol=0
    )
    first, second = gradient(aim.dlr, plain), gradient(aim.dlr, changed)
    assert (first != 0).any()
    torch.testing.assert_close(first, 1e4 * second, rtol=1e-8, atol=1e-12)


def test_cross_entropy_loses_its_gradient_to_a_scale() -> None:
    found = scores(0)
    aim = Aim(int(found[0].argmax()))
    assert gradient(aim.cross_entropy, found[:1]).abs().max() > 0.01
    assert gradient(aim.cross_entropy, 1e4 * found[:1]).abs().max() == 0


@pytest.mark.parametrize("name", ["margin", "cross_entropy", "dlr"])
@pytest.mark.parametrize("aim", AIMS)
def test_a_row_does_not_change_what_others_are_worth(aim: Aim, name: str) -> None:
    loss, found = getattr(aim, name), scores(2)
    alone = torch.cat([loss(Outputs(row[None], {})) for row in found])
    assert loss(Outputs(found, {})).equal(alone)


@pytest.mark.parametrize("name", ["margin", "cross_entropy", "dlr"])
@pytest.mark.parametrize("aim", AIMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_scores_that_are_all_the_same_give_numbers(aim: Aim, name: str, dtype: Any) -> None:
    same = torch.full((2, 5), 0.5, dtype=dtype)
    assert getattr(aim, name)(Outputs(same, {})).isfinite().all()
    assert gradient(getattr(aim, name), same).isfinite().all()
