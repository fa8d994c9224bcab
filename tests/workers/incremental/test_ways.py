"""When patches are not the way, and what is said; approximate and adaptive sweeps."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from convlens.workers.incremental import FullPasses, Incremental, Plan
from convlens.workers.methods.occlusion import Grid
from tests.workers.incremental.sweeps import plan_of, planned, swept
from tests.workers.methods.calibrated import picture
from tests.workers.methods.small import Small

SIZE = 40


class Network(nn.Module):
    """Three convolutions whose patches stay small."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second, self.third = (
            nn.Conv2d(maps, 8, 3, padding=1) for maps in (3, 8, 8)
        )
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.max_pool2d(functional.relu(self.first(x)), 2)
        x = functional.relu(self.third(self.between(functional.relu(self.second(x)))))
        return self.head(x.mean((2, 3)))

    def between(self, x: Tensor) -> Tensor:
        return x


class Sized(Network):
    """Divides by a size that it reads from its maps."""

    def between(self, x: Tensor) -> Tensor:
        return x * (1.0 / x.shape[-1])


class Sure(Network):
    """Takes its maps at one size only."""

    def between(self, x: Tensor) -> Tensor:
        if x.shape[-1] != SIZE // 2:
            raise ValueError("of another size")
        return x


class Generalized(Network):
    """A mean whose window is the size of its maps (GeM)."""

    def between(self, x: Tensor) -> Tensor:
        return x * functional.avg_pool2d(x.clamp(min=1e-6).pow(3), x.shape[2:])


class Slight(Network):
    """Reads a size, and makes hardly anything of it."""

    def between(self, x: Tensor) -> Tensor:
        return x * (1 + 0.002 * (20 / x.shape[-1] - 1))


class Ignored(Network):
    """Writes into its maps, and ignores what the call gives."""

    def between(self, x: Tensor) -> Tensor:
        x.mul_(torch.sigmoid(x.mean((2, 3), keepdim=True)))
        return x


class Assigned(Network):
    def between(self, x: Tensor) -> Tensor:
        x[:, 0] = x[:, 1] * 2
        return x


class Middle(Network):
    def between(self, x: Tensor) -> Tensor:
        return x + x[:, :, x.shape[2] // 2, x.shape[3] // 2][..., None, None]


class Attentive(Network):
    """Every place hears from every other at once."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x * torch.softmax(x.flatten(2).sum(1), 1).view(-1, 1, SIZE, SIZE))


def small(module: nn.Module) -> Small:
    return Small(module, (3, SIZE, SIZE))


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (Sized(), "mul is given other numbers for parts of its maps"),
        (Slight(), "mul is given other numbers for parts of its maps"),
        (Generalized(), "avg_pool2d is given other numbers for parts of its maps"),
        (Middle(), "getitem is given other numbers for parts of its maps"),
        (Ignored(), "does not take parts of its maps"),
        (Assigned(), "does not take parts of its maps"),
        (Sure(), "does not take parts of its maps (ValueError: of another size"),
    ],
)
def test_what_does_not_go_along_goes_the_full_way_and_says_so(
    module: nn.Module, reason: str
) -> None:
    network = small(module)
    for window, stride in ((8, 8), (8, 4), (14, 6), (20, 4)):
        found = planned(network, window, stride, worth=2)
        assert isinstance(found, FullPasses)
        assert reason in found.reason


def test_a_network_whose_windows_change_everything() -> None:
    found = planned(small(Attentive()), 8, 8)
    assert isinstance(found, FullPasses)
    assert "takes 100 % of the network's multiply-adds" in found.reason


def test_what_does_not_go_along_later_does_so_from_the_first_request() -> None:
    """Whether patches are the way is the same for a fresh engine and for one that has answered."""
    network = small(Generalized())
    engine = Incremental(network, steady=True)
    for window in (32, 22, 8):
        grid = Grid(SIZE, SIZE, window, 4)
        old = engine.plan(grid.rows, grid.columns, grid.lots)
        new = Incremental(network, steady=True).plan(grid.rows, grid.columns, grid.lots)
        assert isinstance(old, FullPasses) and old == new


def test_a_network_that_is_not_steady() -> None:
    grid = Grid(SIZE, SIZE, 8, 8)
    found = Incremental(small(Network()), steady=False).plan(grid.rows, grid.columns, grid.lots)
    assert isinstance(found, FullPasses) and "other calls" in found.reason


def test_plans_are_made_once() -> None:
    engine, grid = Incremental(small(Network()), steady=True), Grid(SIZE, SIZE, 8, 4)
    plan = engine.plan(grid.rows, grid.columns, grid.lots)
    assert plan is engine.plan(grid.rows, grid.columns, grid.lots)
    assert plan is not engine.plan(grid.rows, grid.columns, grid.lots, threshold=0.5)


class Hungry(Network):
    """Finds no memory for anything but whole maps, while `is_full`."""

    is_full = True

    def between(self, x: Tensor) -> Tensor:
        if self.is_full and x.shape[-1] < SIZE // 2:
            raise torch.OutOfMemoryError("planted")
        return x


def test_memory_that_ends_while_windows_are_tried_out() -> None:
    network = Hungry()
    engine, grid = Incremental(small(network), steady=True), Grid(SIZE, SIZE, 8, 8)
    found = engine.plan(grid.rows, grid.columns, grid.lots)
    assert isinstance(found, FullPasses) and "no memory to try" in found.reason
    network.is_full = False
    found = engine.plan(grid.rows, grid.columns, grid.lots)
    assert isinstance(found, Plan), "it is not remembered: there may be room the next time"


@pytest.mark.parametrize("threshold", [0.7, 0.4])
def test_a_threshold_is_nearly_right_and_says_how_nearly(threshold: float) -> None:
    network, x = small(Network()), picture(SIZE, 1)
    fill = torch.full_like(x, 0.5)
    exact, cut = plan_of(network, 6, 3), plan_of(network, 6, 3, threshold=threshold)
    assert cut.share < exact.share
    expected = swept(network, x, fill, 6, 3, exact)
    found = swept(network, x, fill, 6, 3, cut)
    error = (found.map - expected.map).abs().max()
    assert 0 < error < expected.map.abs().max()
    assert found.approximation is not None and expected.approximation is None
    # Of single windows, of which the map has means; some of them are looked at.
    assert found.approximation > 0.3 * float(error)
    whole = swept(network, x, fill, 6, 3, FullPasses("for comparison"))
    clean = network.module(x[None])[0]
    assert found.approximation <= float(whole.map.abs().max() + clean.abs().max())


def test_errors_grow_as_patches_are_cut() -> None:
    network, x = small(Network()), picture(SIZE, 1)
    fill, exact = torch.full_like(x, 0.5), plan_of(network, 6, 3)
    expected = swept(network, x, fill, 6, 3, exact).map
    cuts = [plan_of(network, 6, 3, threshold=threshold) for threshold in (0.8, 0.6, 0.3)]
    errors = [
        float((swept(network, x, fill, 6, 3, plan).map - expected).abs().mean()) for plan in cuts
    ]
    assert errors == sorted(errors)
    assert cuts[0].share > cuts[1].share > cuts[2].share


def test_an_adaptive_sweep_goes_by_patches_too() -> None:
    network, x = small(Network()), picture(SIZE, 2)
    fill, plan = torch.full_like(x, 0.5), plan_of(network, 8, 2)
    found = swept(network, x, fill, 8, 2, plan, adaptive=True)
    whole = swept(network, x, fill, 8, 2, FullPasses("for comparison"), adaptive=True)
    assert found.windows_saved == whole.windows_saved > 100
    assert torch.allclose(found.map, whole.map, atol=1e-12)


def test_what_is_kept_of_a_picture_is_let_go() -> None:
    network, x = small(Network()), picture(SIZE, 2)
    plan = plan_of(network, 8, 4)
    swept(network, x, torch.full_like(x, 0.5), 8, 4, plan)
    assert not plan.shelf._ready
