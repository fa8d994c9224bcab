"""Square, against its paper and torchattacks."""

from math import sqrt
from typing import Any

import pytest
import torch
from torch import Generator, Tensor, nn

from convlens.v1 import attack_methods_pb2 as methods
from convlens.workers.attacks import Aim, Task
from convlens.workers.attacks.budget import L2, Linf
from convlens.workers.attacks.square import share_at, square
from convlens.workers.attacks.squares import L2Squares, LinfSquares
from convlens.workers.methods.randomness import generator_of
from convlens.workers.runner import Pass
from tests.workers.attacks.fooling import (
    at_least,
    attacked,
    fooled,
    lead,
    network,
    picture,
    task,
    trained,
    undecided,
)
from tests.workers.attacks.nearby import nearest_in_l2
from tests.workers.attacks.oracles import torchattacks_fools

NORMS = [methods.NORM_LINF, methods.NORM_L2]


def parameters(norm: Any, **given: Any) -> methods.Square:
    filled: dict[str, Any] = {"epsilon": 0.04, "epsilon_l2": 0.6, "queries": 40, "restarts": 1}
    filled |= {"initial_share": 0.8, **given}
    return methods.Square(norm=norm, **filled)


def coin(shape: tuple[int, ...], generator: Generator) -> Tensor:
    """1 or -1."""
    return 2.0 * torch.randint(0, 2, shape, generator=generator).double() - 1


def corner(x: Tensor, height: int, width: int, generator: Generator) -> tuple[int, int]:
    r = int(torch.randint(0, x.shape[1] - height + 1, (), generator=generator))
    return r, int(torch.randint(0, x.shape[2] - width + 1, (), generator=generator))


def eta(h1: int, h2: int) -> Tensor:
    """Equation 2, value by value, with rows and columns that begin at 1."""
    n = max(h1, h2) // 2
    found = torch.zeros(h1, h2, dtype=torch.float64)
    for r in range(1, h1 + 1):
        for s in range(1, h2 + 1):
            m = n - max(abs(r - h1 // 2 - 1), abs(s - h2 // 2 - 1))
            found[r - 1, s - 1] = sum(1 / (n + 1 - k) ** 2 for k in range(m + 1))
    return found


def bump(channels: int, height: int, width: int, generator: Generator) -> Tensor:
    if int(torch.randint(0, 2, (), generator=generator)) == 1:
        half = height // 2
        both = torch.cat([eta(half, width), -eta(height - half, width)], 0)
    else:
        half = width // 2
        both = torch.cat([eta(half, height).T, -eta(width - half, height).T], 1)
    return coin((channels, 1, 1), generator) * both / both.norm()


def linf_square(x: Tensor, now: Tensor, h: int, epsilon: float, generator: Generator) -> Tensor:
    """Algorithm 2."""
    height, width = min(h, x.shape[1]), min(h, x.shape[2])
    r, s = corner(x, height, width, generator)
    rho = 2 * epsilon * coin((len(x), 1, 1), generator).flatten()
    delta = torch.zeros_like(x)
    for i in range(len(x)):
        delta[i, r : r + height, s : s + width] = rho[i]
    return (now + delta).clamp(x - epsilon, x + epsilon).clamp(0, 1)


def l2_square(x: Tensor, now: Tensor, h: int, epsilon: float, generator: Generator) -> Tensor:
    """Algorithm 3."""
    height, width = min(h, x.shape[1]), min(h, x.shape[2])
    nu = now - x
    r1, s1 = corner(x, height, width, generator)
    r2, s2 = corner(x, height, width, generator)
    unused = max(epsilon**2 - float((nu**2).sum()), 0)
    bumps = bump(len(x), height, width, generator)
    for i in range(len(x)):
        inside = torch.zeros(x.shape[1:], dtype=torch.bool)
        inside[r1 : r1 + height, s1 : s1 + width] = True
        inside[r2 : r2 + height, s2 : s2 + width] = True
        available = sqrt(float((nu[i][inside] ** 2).sum()) + unused / len(x))
        window = nu[i, r1 : r1 + height, s1 : s1 + width].clone()
        temp = bumps[i] + (window / window.norm() if window.norm() > 0 else 0)
        if temp.norm() == 0:
            temp = bumps[i]
        nu[i, r2 : r2 + height, s2 : s2 + width] = 0
        nu[i, r1 : r1 + height, s1 : s1 + width] = temp / temp.norm() * available
    return nearest_in_l2(x, x + nu, epsilon)


def stripes(x: Tensor, epsilon: float, generator: Generator) -> Tensor:
    return (x + epsilon * coin((len(x), 1, x.shape[2]), generator)).clamp(0, 1)


def grid(x: Tensor, epsilon: float, generator: Generator) -> Tensor:
    """Five tiles by five, in the middle of the picture."""
    _, height, width = x.shape
    h, w = max(height // 5, 1), max(width // 5, 1)
    rows, columns = min(height, 5), min(width, 5)
    delta = torch.zeros_like(x)
    for i in range(rows):
        for j in range(columns):
            r, s = (height - h * rows) // 2 + i * h, (width - w * columns) // 2 + j * w
            delta[:, r : r + h, s : s + w] = bump(len(x), h, w, generator)
    return nearest_in_l2(x, x + epsilon * delta / delta.norm(), epsilon)


def side(query: int, p: methods.Square, x: Tensor) -> int:
    """The paper's schedule, written out."""
    i = query * 10000 / p.queries if p.rescale_schedule else query
    share = p.initial_share
    for at in [10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000]:
        share = share / 2 if i > at else share
    h = round(sqrt(share * x.shape[1] * x.shape[2]))
    if p.norm == methods.NORM_LINF:
        return max(h, 1)
    return max(h, 3) + (max(h, 3) % 2 == 0)


def reference(net: nn.Module, given: Task, p: methods.Square, start: int = 0) -> list[Tensor]:
    """Algorithm 1: all pictures that are asked about."""
    is_linf = p.norm == methods.NORM_LINF
    epsilon = p.epsilon if is_linf else p.epsilon_l2
    first, change = (stripes, linf_square) if is_linf else (grid, l2_square)
    found = first(given.x, epsilon, generator_of(3, "square", start, 0))
    seen, least = [found], -lead(net, given.aim, found)
    for i in range(1, p.queries):
        generator = generator_of(3, "square", start, i)
        new = change(given.x, found.clone(), side(i, p, given.x), epsilon, generator)
        seen.append(new)
        margin = -lead(net, given.aim, new)
        if margin < least:
            found, least = new, margin
    return seen


class Watched(nn.Module):
    """Keeps the pictures that it is shown."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x[0].detach().clone())
        return self.inner(x)


def plain(channels: int, height: int, width: int) -> nn.Module:
    """For pictures of any shape."""
    torch.manual_seed(height)
    layers = [nn.Flatten(), nn.Linear(channels * height * width, 8), nn.Tanh(), nn.Linear(8, 4)]
    return nn.Sequential(*layers).double().requires_grad_(False)


SHAPES = [(3, 12, 12), (1, 9, 14), (2, 17, 6), (4, 5, 5), (1, 1, 10), (1, 2, 3), (1, 1, 1)]
CASES: list[tuple[Any, dict[str, Any]]] = [
    *((shape, {}) for shape in SHAPES),
    ((1, 9, 14), {"restarts": 2, "queries": 15}),
    ((2, 17, 6), {"rescale_schedule": True, "initial_share": 0.3}),
    ((1, 1, 10), {"queries": 1}),
]


@pytest.mark.parametrize(("shape", "case"), CASES)
@pytest.mark.parametrize("norm", NORMS)
def test_every_picture_it_asks_about_is_that_of_the_paper(norm: Any, shape: Any, case: Any) -> None:
    net, x, p = Watched(plain(*shape)), picture(1, *shape), parameters(norm, **case)
    given = task(net.inner, x, stop_at_success=False)
    found, points = attacked(net, square(given, p), *shape)
    starts = [reference(net.inner, given, p, start) for start in range(p.restarts)]
    seen = [pixels for start in starts for pixels in start]
    assert points == len(seen) == found.steps == p.restarts * p.queries
    shown = torch.stack(net.seen[-len(seen) :])
    torch.testing.assert_close(shown, torch.stack(seen), rtol=0, atol=1e-9)
    best = max(seen, key=lambda pixels: lead(net.inner, given.aim, pixels))
    torch.testing.assert_close(found.pixels, best, rtol=0, atol=1e-9)


@pytest.mark.parametrize("rank", [None, 1])
@pytest.mark.parametrize("norm", NORMS)
def test_it_finds_the_best_picture_of_the_paper(norm: Any, rank: int | None) -> None:
    net, x, p = network(2), picture(2), parameters(norm, queries=60)
    given = task(net, x, rank=rank, stop_at_success=False)
    found, _ = attacked(net, square(given, p))
    seen = reference(net, given, p)
    best = max(seen, key=lambda pixels: lead(net, given.aim, pixels))
    assert not best.equal(seen[0]), "nothing is shown"
    torch.testing.assert_close(found.pixels, best, rtol=0, atol=1e-9)


def test_it_asks_for_no_gradient() -> None:
    net, x = network(0), picture(0)
    steps = square(task(net, x), parameters(methods.NORM_LINF))
    wanted = next(steps)
    assert isinstance(wanted, Pass)
    assert wanted.objective is None and len(wanted.points) == 1


@pytest.mark.parametrize("norm", NORMS)
def test_it_ends_at_its_first_success(norm: Any) -> None:
    ended_early = 0
    for seed in range(5):
        net, x = undecided(seed, by=0.02)
        p = parameters(norm, epsilon=0.08, epsilon_l2=2)
        given = task(net, x)
        found, points = attacked(net, square(given, p))
        leads = [lead(net, given.aim, pixels) > 0 for pixels in reference(net, given, p)]
        assert found.success == any(leads)
        assert points == found.steps == (leads.index(True) + 1 if any(leads) else p.queries)
        ended_early += 1 < points < p.queries
    assert ended_early


def test_the_share_is_halved_as_in_the_paper() -> None:
    p = parameters(methods.NORM_LINF, queries=5000)
    shares = [share_at(query, p) for query in (1, 10, 11, 50, 51, 201, 4999)]
    assert shares == [0.8, 0.8, 0.4, 0.4, 0.2, 0.1, 0.8 / 128]
    p = parameters(methods.NORM_LINF, queries=100, rescale_schedule=True)
    assert [share_at(query, p) for query in (0, 1, 50, 99)] == [0.8, 0.2, 0.8 / 128, 0.8 / 512]


def test_squares_are_everywhere_and_within_the_picture() -> None:
    x = torch.full((1, 4, 6), 0.5, dtype=torch.float64)
    given = Task(x, Aim(0), 0)
    squares, corners = LinfSquares(given, Linf(given, 0.1)), set[tuple[int, int]]()
    for n in range(200):
        moved = squares.next(x, 4 / 24, generator_of("everywhere", n)) != x
        assert moved.sum() == 4
        corners.add(tuple(moved[0].nonzero()[0].tolist()))
    assert corners == {(row, column) for row in range(3) for column in range(5)}


@pytest.mark.parametrize("shape", SHAPES)
def test_changes_are_as_large_as_is_allowed(shape: Any) -> None:
    x = 0.5 + 0.1 * (picture(0, *shape) - 0.5)
    given = Task(x, Aim(0), 0)
    linf, l2 = LinfSquares(given, Linf(given, 0.1)), L2Squares(given, L2(given, 0.2))
    stripes, bumps = linf.first(generator_of("a")), l2.first(generator_of("b"))
    for n in range(20):
        torch.testing.assert_close((stripes - x).abs(), torch.full_like(x, 0.1))
        assert float((bumps - x).norm()) == pytest.approx(0.2, rel=1e-9)
        stripes = linf.next(stripes, 0.3, generator_of("a", n))
        bumps = l2.next(bumps, 0.3, generator_of("b", n))


@pytest.mark.parametrize("norm", NORMS)
def test_a_picture_without_bounds_leaves_0_and_1(norm: Any) -> None:
    net, x = plain(1, 1, 10), 4 * picture(0, 1, 1, 10) - 2
    given = task(net, x, unbounded=True, stop_at_success=False)
    found, _ = attacked(net, square(given, parameters(norm)), 1, 1, 10)
    assert found.pixels.min() < -1 and found.pixels.max() > 1.5
    assert lead(net, given.aim, found.pixels) > lead(net, given.aim, x)


@pytest.mark.parametrize("norm", NORMS)
def test_it_goes_on_until_the_rounded_picture_succeeds(norm: Any) -> None:
    net, x = undecided(0, by=0.01)
    given, p = task(net, x), parameters(norm, epsilon=0.08, epsilon_l2=2)
    early, _ = attacked(net, square(given, p))
    late, _ = attacked(net, square(task(net, x, stop_at_success=False), p))
    least = (lead(net, given.aim, early.pixels) + lead(net, given.aim, late.pixels)) / 2
    rounding = at_least(net, given.aim, least)
    found, _ = attacked(net, square(task(net, x, rounding=rounding), p))
    assert early.success and found.success
    assert early.steps < found.steps < late.steps
    assert lead(net, given.aim, found.pixels) > least
    none, _ = attacked(net, square(task(net, x, rounding=lambda _: None), p))
    assert not none.success and none.steps == late.steps


FEW = [(methods.NORM_LINF, "Linf", 0.065), (methods.NORM_L2, "L2", 1.6)]
MANY = [(methods.NORM_LINF, "Linf", 0.055), (methods.NORM_L2, "L2", 0.9)]


def compared(norm: Any, their_norm: str, epsilon: float, queries: int) -> tuple[int, int]:
    """How many pictures are fooled by ours, and by that of torchattacks."""
    net, pictures, labels = trained()
    theirs: dict[str, Any] = {"norm": their_norm, "eps": epsilon, "n_queries": queries}
    p = parameters(norm, epsilon=epsilon, epsilon_l2=epsilon, queries=queries)
    return (
        fooled(net, pictures, labels, square, p),
        torchattacks_fools(net, pictures, labels, "Square", resc_schedule=False, **theirs),
    )


@pytest.mark.parametrize(("norm", "their_norm", "epsilon"), FEW)
def test_it_fools_as_often_as_that_of_torchattacks(
    norm: Any, their_norm: str, epsilon: float
) -> None:
    ours, theirs = compared(norm, their_norm, epsilon, queries=60)
    assert 0 < theirs < 32
    assert ours >= theirs


@pytest.mark.slow
@pytest.mark.parametrize(("norm", "their_norm", "epsilon"), MANY)
def test_it_fools_as_often_with_many_queries(norm: Any, their_norm: str, epsilon: float) -> None:
    ours, theirs = compared(norm, their_norm, epsilon, queries=500)
    assert 0 < theirs < 32
    assert ours >= theirs
