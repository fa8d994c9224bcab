"""The rule that lets a gradient through where rectifiers block it wholly."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from convlens.workers.rectifiers import Rule, applied
from tests.workers.methods.networks_with_rectifiers import NETWORKS, Functional
from tests.workers.methods.small import Small

X = torch.rand(2, 3, 12, 12, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
INF = float("inf")


def by_hand(x: Tensor, cap: float = INF) -> Tensor:
    """A rectifier as lucid redirects it, number by number, for what is made large."""
    y = x + (x.clamp(0, cap) - x).detach()
    values = x.detach().clone()

    def back(gradient: Tensor) -> Tensor:
        found = torch.zeros_like(gradient)
        for n, (row, value) in enumerate(zip(gradient, values, strict=True)):
            plain = torch.where((value > 0) & (value < cap), row, 0)
            pushes_out = ((value < 0) & (row < 0)) | ((value > cap) & (row > 0))
            found[n] = plain if plain.any() else torch.where(pushes_out, 0, row)
        return found

    if y.requires_grad:
        y.register_hook(back)
    return y


def gradient(run: Callable[[Tensor], Tensor], x: Tensor, rule: Rule | None = None) -> Tensor:
    x = x.clone().requires_grad_()
    with applied(rule):
        scores = run(x)
    [found] = torch.autograd.grad(scores[:, 2].sum(), x)
    return found


def blocked(kind: Any, bias: float) -> Any:
    """A network all of whose first rectifiers are off for small pictures, or above their cap."""
    torch.manual_seed(0)
    module: Any = Small(kind()).module
    with torch.no_grad():
        module.one.bias.fill_(bias)
    return module


# The first picture is blocked, the second is large enough for anything.
MIXED = torch.stack([0.1 * X[0], 100 * (X[1] - 0.5)])


@pytest.mark.parametrize("bias", [-1.0, 1.0])
@pytest.mark.parametrize("kind", NETWORKS)
def test_a_blocked_gradient_is_redirected_however_rectifiers_are_called(
    kind: Any, bias: float
) -> None:
    module = blocked(kind, bias)
    expected = gradient(lambda x: module.plain(x, by_hand), MIXED)
    found = gradient(module, MIXED, Rule.REDIRECT)
    assert all(row.any() for row in expected), "nothing is compared"
    for one, other in zip(found, expected, strict=True):
        assert (one - other).abs().max() <= 1e-12 * other.abs().max()


def test_only_the_rows_that_are_blocked_are_redirected() -> None:
    module = blocked(Functional, -1.0)
    plain, found = gradient(module, MIXED), gradient(module, MIXED, Rule.REDIRECT)
    assert not plain[0].any() and found[0].any()
    assert plain[1].any() and torch.equal(found[1], plain[1])


def test_a_row_has_what_it_has_alone() -> None:
    module = blocked(Functional, -1.0)
    together = gradient(module, MIXED, Rule.REDIRECT)
    for n in range(2):
        alone = gradient(module, MIXED[n : n + 1], Rule.REDIRECT)
        assert (alone[0] - together[n]).abs().max() <= 1e-12 * together[n].abs().max()


SLOPE = torch.tensor([1.0, -1.0])


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        # Nothing passes: below 0 what pushes up, above the cap what pushes down, on an edge all.
        ([-1.0, -1.0], [1, 0]),
        ([7.0, 7.0], [0, -1]),
        ([0.0, 0.0], [1, -1]),
        ([-1.0, 7.0], [1, -1]),
        # Something does, and then nothing else.
        ([-1.0, 3.0], [0, -1]),
        ([3.0, 7.0], [1, 0]),
        # What would pass is no gradient at all.
        ([7.0, -1.0], [0, 0]),
    ],
)
@pytest.mark.parametrize(
    "call", [F.relu6, lambda x: F.hardtanh(x, 0.0, 6.0), lambda x: x.clamp(0, 6)]
)
def test_a_cap_is_an_edge_like_zero(
    call: Callable[[Tensor], Tensor], values: list[float], expected: list[float]
) -> None:
    x = torch.tensor([values]).requires_grad_()
    with applied(Rule.REDIRECT):
        y = call(2 * x / 2)
    [found] = torch.autograd.grad((SLOPE * y).sum(), x)
    assert found.tolist() == [expected]


def test_a_gradient_that_is_zero_where_it_could_pass_is_blocked() -> None:
    x = torch.tensor([[2.0, -1.0], [2.0, -1.0]]).requires_grad_()
    with applied(Rule.REDIRECT):
        y = F.relu(x)
    [found] = torch.autograd.grad((torch.tensor([[0.0, 1.0], [1.0, 1.0]]) * y).sum(), x)
    assert found.tolist() == [[0, 1], [1, 0]]


def test_a_vector_is_rows_of_one_number() -> None:
    x = torch.tensor([-1.0, 2.0, -1.0]).requires_grad_()
    with applied(Rule.REDIRECT):
        y = F.relu(x)
    [found] = torch.autograd.grad((torch.tensor([1.0, 1.0, -1.0]) * y).sum(), x)
    assert found.tolist() == [1, 1, 0]
