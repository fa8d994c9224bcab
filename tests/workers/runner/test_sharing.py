"""What several items of a job ask at the same points is computed once."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import pytest
import torch
from torch import Tensor

from convlens.workers.methods.goals import Score
from convlens.workers.network import ServedNetwork
from convlens.workers.runner import Outputs, Pass, Steps
from tests.workers.runner.jobs import ROWS, Asked, picture, running, scored


@dataclass(frozen=True)
class Shifted:
    """Points that are made when they are due."""

    x: Tensor
    count: int

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, rows: slice, /) -> Tensor:
        return torch.stack([self.x.roll(n, 1) for n in range(self.count)[rows]])


def slope_of(points: Tensor | Shifted, target: int) -> Callable[[], Steps[Tensor]]:
    def steps() -> Steps[Tensor]:
        answer = yield Pass(points, Score(target))
        return answer.slope

    return steps


def spent(job: Asked) -> tuple[int, int]:
    return job.spent.forward_passes, job.spent.backward_passes


def computed(network: ServedNetwork, job: Asked, *, share: bool) -> Asked:
    with running(network, share) as runner:
        runner.submit(job)
        assert set(job.reasons()) == {"well"}
    return job


@pytest.mark.parametrize(
    ("share", "shape", "cost"),
    # A CPU goes back through one row again and again; a GPU through many at once.
    [(False, [1], (1, 3)), (True, [ROWS], (3, 3))],
    ids=["alone", "shared"],
)
def test_the_gradients_of_several_classes_share_the_forward_pass(
    network: ServedNetwork,
    shapes: list[int],
    share: bool,
    shape: list[int],
    cost: tuple[int, int],
) -> None:
    x = picture(1)[0]
    # As methods ask: each makes a batch of one of the same picture.
    job = computed(network, Asked(*(slope_of(x[None], n) for n in range(3))), share=share)
    assert shapes == shape
    assert spent(job) == cost
    for target, found in job.outcomes.items():
        alone = computed(network, Asked(slope_of(picture(1), target)), share=share)
        assert torch.equal(found, alone.outcomes[0])
    assert not torch.equal(job.outcomes[0], job.outcomes[1])


@pytest.mark.parametrize("share", [False, True], ids=["alone", "shared"])
def test_what_is_asked_twice_is_computed_once(
    network: ServedNetwork, shapes: list[int], share: bool
) -> None:
    x = picture(2)[0]
    twice = [slope_of(Shifted(x, 2), 0), slope_of(Shifted(x, 2), 0)]
    job = computed(network, Asked(*twice, scored(x[None]), scored(x[None])), share=share)
    assert spent(job) == (3, 2)
    assert job.stages.passes == 4, "each asks for its own"
    assert torch.equal(job.outcomes[0], job.outcomes[1])
    assert torch.equal(job.outcomes[2], job.outcomes[3])


def test_points_that_are_only_equal_by_chance_are_not_the_same(network: ServedNetwork) -> None:
    one, other = picture(3), picture(3)
    job = computed(network, Asked(slope_of(one, 0), slope_of(other, 0)), share=False)
    assert spent(job) == (2, 2)
    tall = torch.cat([one, other.flip(2)], dim=2)
    rows = [tall[:, :, ::2], tall[:, :, :128]]
    assert rows[0].data_ptr() == rows[1].data_ptr()
    job = computed(network, Asked(*(slope_of(each, 0) for each in rows)), share=False)
    assert spent(job) == (2, 2)


def test_rows_with_as_many_objectives_are_computed_together(
    network: ServedNetwork, shapes: list[int]
) -> None:
    pictures = [picture(seed) for seed in range(ROWS)]
    items = [slope_of(x, n) for x in pictures for n in range(2)]
    job = computed(network, Asked(slope_of(picture(9), 0), *items), share=False)
    # The one picture with one class is not made to go back twice.
    assert sorted(shapes) == [1, ROWS]
    assert spent(job) == (ROWS + 1, 2 * ROWS + 1)


@pytest.mark.parametrize(
    ("count", "objectives", "expected"),
    [
        (1, 16, [1]),
        (1, 17, [1, 1]),
        # More of them are put into full micro-batches, eight in each row.
        (1, 16 * ROWS, [ROWS, ROWS]),
        (ROWS // 2, 16, [ROWS // 2]),
        (ROWS // 2 + 1, 9, [ROWS // 2 + 1] * 2),
        (ROWS, 8, [ROWS]),
        (ROWS, 9, [ROWS, ROWS]),
    ],
)
def test_many_objectives_go_back_in_several_turns(
    network: ServedNetwork, shapes: list[int], count: int, objectives: int, expected: list[int]
) -> None:
    def weighed(x: Tensor, weight: float) -> Steps[Tensor]:
        answer = yield Pass(x, lambda outputs: weight * outputs.scores[:, 0])
        return answer.slope

    asked = [
        partial(weighed, x, number + 1.0)
        for x in (picture(seed) for seed in range(count))
        for number in range(objectives)
    ]
    job = computed(network, Asked(*asked), share=False)
    # Twice as many after one pass where half of its rows are enough.
    assert shapes == expected
    for number, outcome in job.outcomes.items():
        first, weight = divmod(number, objectives)
        slope = (weight + 1.0) * job.outcomes[first * objectives]
        assert torch.allclose(outcome, slope, rtol=1e-4, atol=1e-6)


def test_an_objective_that_breaks_is_alone_with_it(network: ServedNetwork) -> None:
    x = picture(5)

    def broken(outputs: Outputs) -> Tensor:
        raise RuntimeError("planted: no value")

    def breaking() -> Steps[None]:
        yield Pass(x, broken)

    with running(network) as runner:
        job = Asked(slope_of(x, 0), breaking, slope_of(x, 1))
        runner.submit(job)
        assert job.reasons() == ["well", "INTERNAL", "well"]


def test_an_objective_without_a_gradient_gives_its_value(network: ServedNetwork) -> None:
    def steps() -> Steps[Tensor]:
        answer = yield Pass(picture(6), Score(1), by=())
        assert not answer.gradients
        return answer.worth

    job = computed(network, Asked(steps, scored(picture(6))), share=False)
    assert spent(job) == (2, 0)
    assert torch.equal(job.outcomes[0], job.outcomes[1][:, 1])
