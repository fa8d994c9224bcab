"""What the network says reaches the method that asked."""

from typing import Any

import pytest
import torch
from torch import Tensor

from convlens.workers.anatomy import INPUT
from convlens.workers.network import ServedNetwork
from convlens.workers.runner import (
    Answer,
    Outputs,
    Pass,
    Runner,
    Steps,
    side_by_side,
)
from tests.workers.runner.jobs import ROWS, Asked, best, picture, running, saliency, scored


def test_answers_are_those_of_the_network(runner: Runner, network: ServedNetwork) -> None:
    points = picture(1, 6)
    job = Asked(scored(points), saliency(points))
    runner.submit(job)
    assert job.reasons() == ["well", "well"]
    x = points.clone().requires_grad_()
    scores = network.module(x)
    [gradient] = torch.autograd.grad(scores.amax(dim=1).sum(), x)
    assert torch.allclose(job.outcomes[0], scores, atol=1e-4)
    assert torch.allclose(job.outcomes[1], gradient, atol=1e-4 * float(gradient.abs().max()))


def test_captured_layers(runner: Runner, network: ServedNetwork) -> None:
    call = network.trace.call("features.3")
    points = picture(2, 5)

    def steps() -> Steps[Answer]:
        return (yield Pass(points, lambda out: out.captured[call].sum((1, 2, 3)), (call,)))

    job = Asked(steps)
    runner.submit(job)
    assert job.reasons() == ["well"]
    answer: Answer = job.outcomes[0]
    x = points.clone().requires_grad_()
    module: Any = network.module
    inner = module.body.features[:4]((x - module.mean) / module.std)
    [gradient] = torch.autograd.grad(inner.sum(), x)
    assert answer.captured[call].shape == inner.shape
    assert torch.allclose(answer.captured[call], inner, atol=1e-4)
    assert torch.allclose(answer.worth, inner.sum((1, 2, 3)), rtol=1e-4)
    assert torch.allclose(answer.slope, gradient, atol=1e-4 * float(gradient.abs().max()))


def test_points_are_made_when_they_are_due_and_parts_come_in_order(runner: Runner) -> None:
    made: list[tuple[int, int]] = []
    whole = picture(3, 10)
    parts: list[Tensor] = []

    class Lazy:
        def __len__(self) -> int:
            return 10

        def __getitem__(self, rows: slice, /) -> Tensor:
            made.append((rows.start, rows.stop))
            assert len(parts) == len(made) - 1, "no part is made before the one before is done"
            return whole[rows]

    def steps() -> Steps[Tensor]:
        last = yield Pass(Lazy(), best, each=lambda part: parts.append(part.scores))
        return last.scores

    lazy, plain = Asked(steps), Asked(scored(whole))
    runner.submit(lazy)
    runner.submit(plain)
    assert lazy.reasons() == plain.reasons() == ["well"]
    assert made == [(0, 4), (4, 8), (8, 10)]
    assert torch.allclose(torch.cat(parts), plain.outcomes[0], atol=1e-4)
    assert torch.equal(lazy.outcomes[0], parts[-1])


def test_the_gradient_by_a_layer_is_that_of_what_it_gave(
    runner: Runner, network: ServedNetwork
) -> None:
    # A rectifier in place follows: what the layer gave is overwritten.
    call = network.trace.call("features.0")
    points = picture(2, 5)

    def steps() -> Steps[Answer]:
        return (yield Pass(points, best, (call,), by=(call, INPUT)))

    job = Asked(steps)
    runner.submit(job)
    assert job.reasons() == ["well"]
    answer: Answer = job.outcomes[0]
    module: Any = network.module
    x = points.clone().requires_grad_()
    inner = module.body.features[0]((x - module.mean) / module.std)
    rest = module.body.features[1:](inner * 1)
    score = module.body.classifier(rest.flatten(1)).amax(dim=1).sum()
    by_layer, by_pixels = torch.autograd.grad(score, [inner, x])
    assert torch.allclose(answer.captured[call], inner, atol=1e-5)
    for found, expected in ((answer.gradients[call], by_layer), (answer.slope, by_pixels)):
        assert float(expected.abs().max()) > 0
        assert torch.allclose(found, expected, atol=1e-4 * float(expected.abs().max()))


def test_a_pass_that_stops_computes_nothing_after_its_layer(
    runner: Runner, network: ServedNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    module: Any = network.module

    def never(_: Tensor) -> Tensor:
        raise AssertionError("the classifier was asked")

    monkeypatch.setattr(module.body.classifier[-1], "forward", never)
    call = network.trace.call("features.3")

    def total(outputs: Outputs) -> Tensor:
        return outputs.captured[call].sum((1, 2, 3))

    def steps() -> Steps[Answer]:
        return (yield Pass(picture(1, 5), total, (call,), stops=True))

    job = Asked(steps)
    runner.submit(job)
    assert job.reasons() == ["well"]
    assert job.outcomes[0].scores.shape == (5, 0)
    assert float(job.outcomes[0].slope.abs().max()) > 0


def test_branches_are_computed_side_by_side(network: ServedNetwork, shapes: list[int]) -> None:
    def forked() -> Steps[Any]:
        first = yield Pass(picture(0))
        rest = yield from side_by_side([scored(picture(n, n))() for n in (1, 2, 1)])
        nothing = yield from side_by_side([])
        return [first.scores, *rest, *nothing]

    with running(network, share=True) as runner:
        job = Asked(forked, forked)
        runner.submit(job)
        assert job.reasons() == ["well", "well"]
    # Each of the two asks for one point, and then for four.
    assert shapes == [ROWS, ROWS, ROWS]
    assert [len(scores) for scores in job.outcomes[1]] == [1, 1, 2, 1]
    assert torch.equal(job.outcomes[0][2], job.outcomes[1][2])


def test_what_was_computed_for_a_job_is_counted(runner: Runner) -> None:
    job = Asked(scored(picture(0, 6)), saliency(picture(0, 3)))
    runner.submit(job)
    assert job.wait() == "done"
    assert (job.spent.forward_passes, job.spent.backward_passes) == (9, 3)
    # Micro-batches of four rows and of two, and three gradients in one.
    assert (job.stages.passes, round(job.stages.micro_batches, 6)) == (3, 3)
