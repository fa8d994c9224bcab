"""The methods that take gradients as they are, against their papers and captum."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from convlens.v1 import explanation_methods_pb2 as pb
from convlens.v1 import image_pb2
from convlens.workers.methods.fills import filled
from convlens.workers.methods.goals import score_of
from convlens.workers.methods.input_x_gradient import input_x_gradient
from convlens.workers.methods.integrated_gradients import integrated_gradients, midpoints
from convlens.workers.methods.randomness import generator_of
from convlens.workers.methods.saliency import saliency
from convlens.workers.methods.smooth_grad import smooth_grad
from tests.workers.methods.calibrated import calibrated, picture
from tests.workers.methods.small import Small, run

TARGET = 2
REDUCTIONS = {
    pb.CHANNEL_REDUCTION_MAX_ABS: lambda v: v.abs().max(0).values,
    pb.CHANNEL_REDUCTION_SUM_ABS: lambda v: v.abs().sum(0),
    pb.CHANNEL_REDUCTION_SUM_SIGNED: lambda v: v.sum(0),
    pb.CHANNEL_REDUCTION_NONE: lambda v: v.permute(1, 2, 0),
}


def small_network(seed: int) -> nn.Module:
    """A random network in double precision whose gradients are nowhere the same."""
    torch.manual_seed(seed)
    return (
        nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(8, 8, 3),
            nn.Softplus(),
            nn.Flatten(),
            nn.Linear(8 * 4 * 4, 5),
        )
        .double()
        .requires_grad_(False)
    )


@pytest.fixture(params=range(3))
def network(request: pytest.FixtureRequest) -> nn.Module:
    return small_network(request.param)


@pytest.fixture
def x() -> Tensor:
    return torch.rand(3, 12, 12, generator=torch.Generator().manual_seed(7), dtype=torch.float64)


def gradient(network: nn.Module, x: Tensor) -> Tensor:
    """One picture, one gradient: the slow way."""
    x = x.clone().requires_grad_()
    network(x[None])[0, TARGET].backward()
    assert x.grad is not None
    return x.grad


def same(a: Tensor, b: Tensor, limit: float = 1e-9) -> None:
    assert a.shape == b.shape
    assert b.abs().max() > 0, "nothing is compared"
    assert (a - b).abs().max() <= limit * b.abs().max()


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_saliency_is_the_gradient(network: nn.Module, x: Tensor, reduction: Any) -> None:
    found = run(network, saliency(x, score_of(TARGET), pb.Saliency(reduction=reduction)))
    same(found, REDUCTIONS[reduction](gradient(network, x)))


def test_saliency_is_what_finite_differences_give(network: nn.Module, x: Tensor) -> None:
    none = pb.Saliency(reduction=pb.CHANNEL_REDUCTION_NONE)
    found = run(network, saliency(x, score_of(TARGET), none))
    for channel, row, column in [(0, 3, 4), (1, 8, 8), (2, 6, 1)]:
        shift = torch.zeros_like(x)
        shift[channel, row, column] = 1e-6
        up, down = (network((x + sign * shift)[None])[0, TARGET] for sign in (1, -1))
        assert found[row, column, channel] == pytest.approx(float(up - down) / 2e-6, rel=1e-4)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_input_x_gradient(network: nn.Module, x: Tensor, reduction: Any) -> None:
    p = pb.InputXGradient(reduction=reduction)
    found = run(network, input_x_gradient(x, score_of(TARGET), p))
    same(found, REDUCTIONS[reduction](x * gradient(network, x)))


FORMS = {
    pb.SMOOTH_GRAD_FORM_SIGNED: lambda gs, r: r(gs.mean(0)),
    pb.SMOOTH_GRAD_FORM_ABSOLUTE: lambda gs, r: torch.stack([r(g.abs()) for g in gs]).mean(0),
    pb.SMOOTH_GRAD_FORM_SQUARED: lambda gs, r: torch.stack([r(g * g) for g in gs]).mean(0),
    pb.SMOOTH_GRAD_FORM_VARIANCE: lambda gs, r: r(gs.var(0)),
}


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("form", FORMS)
def test_smooth_grad(network: nn.Module, x: Tensor, form: Any, reduction: Any) -> None:
    p = pb.SmoothGrad(samples=9, noise=0.2, form=form, reduction=reduction)
    found = run(network, smooth_grad(x, score_of(TARGET), p, seed=3))
    sigma = 0.2 * (x.max() - x.min())
    gradients: list[Tensor] = []
    for sample in range(9):
        noise = torch.randn(x.shape, generator=generator_of(3, "smooth_grad", sample))
        gradients.append(gradient(network, x + sigma * noise.double()))
    same(found.map, FORMS[form](torch.stack(gradients), REDUCTIONS[reduction]))
    assert found.standard_error > 0


def test_the_standard_error_of_smooth_grad_tells_how_far_it_is(x: Tensor) -> None:
    network = small_network(0)
    signed: dict[str, Any] = {
        "form": pb.SMOOTH_GRAD_FORM_SIGNED,
        "reduction": pb.CHANNEL_REDUCTION_NONE,
    }

    def map_of(samples: int, seed: int) -> Any:
        p = pb.SmoothGrad(samples=samples, noise=0.2, **signed)
        return run(network, smooth_grad(x, score_of(TARGET), p, seed), rows=64)

    truth = map_of(2000, 1).map
    for seed in range(2, 6):
        found = map_of(40, seed)
        distance = float((found.map - truth).square().mean().sqrt())
        assert 0.7 < distance / found.standard_error < 1.4


def test_without_noise_smooth_grad_is_saliency(network: nn.Module, x: Tensor) -> None:
    flat = torch.full_like(x, 0.3)
    p = pb.SmoothGrad(
        samples=3,
        noise=0.2,
        form=pb.SMOOTH_GRAD_FORM_ABSOLUTE,
        reduction=pb.CHANNEL_REDUCTION_MAX_ABS,
    )
    found = run(network, smooth_grad(flat, score_of(TARGET), p, seed=0))
    same(found.map, gradient(network, flat).abs().amax(0))
    assert found.standard_error == pytest.approx(0, abs=1e-12)


def integrated(**given: Any) -> pb.IntegratedGradients:
    defaults: dict[str, Any] = {
        "steps": 8,
        "max_steps": 432,
        "tolerance": 0.01,
        "reduction": pb.CHANNEL_REDUCTION_NONE,
    }
    return pb.IntegratedGradients(**(defaults | given))


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_integrated_gradients(network: nn.Module, x: Tensor, reduction: Any) -> None:
    baseline = torch.zeros_like(x)
    p = integrated(max_steps=8, reduction=reduction)
    found = run(network, integrated_gradients(x, baseline, score_of(TARGET), p))
    expected = torch.zeros_like(x)
    for step in range(8):
        point = baseline + (step + 0.5) / 8 * (x - baseline)
        expected += (x - baseline) * gradient(network, point) / 8
    same(found.map, REDUCTIONS[reduction](expected))
    scores = network(torch.stack([x, baseline]))[:, TARGET].tolist()
    assert [found.score, found.baseline_score] == pytest.approx(scores)
    assert found.error == pytest.approx(abs(float(expected.sum()) - scores[0] + scores[1]))


@pytest.mark.parametrize("steps", [1, 4, 16])
def test_tripled_steps_are_those_of_a_finer_rule(x: Tensor, steps: int) -> None:
    network = Small(small_network(1))
    baseline = torch.zeros_like(x)
    refined = integrated(steps=steps, max_steps=9 * steps, tolerance=1e-12)
    fine = integrated(steps=9 * steps, max_steps=9 * steps, tolerance=1e-12)
    found = run(network, integrated_gradients(x, baseline, score_of(TARGET), refined))
    assert network.points == 9 * steps + 2, "no point is computed twice"
    expected = run(network, integrated_gradients(x, baseline, score_of(TARGET), fine))
    same(found.map, expected.map)
    assert (found.steps, found.converged) == (9 * steps, False)


@pytest.mark.parametrize("tolerance", [0.1, 0.01, 0.001])
def test_attributions_add_up_to_the_difference_in_score(
    network: nn.Module, x: Tensor, tolerance: float
) -> None:
    p = integrated(steps=2, max_steps=9000, tolerance=tolerance)
    found = run(network, integrated_gradients(x, x.flip(2), score_of(TARGET), p))
    difference = found.score - found.baseline_score
    assert found.converged
    assert abs(float(found.map.sum()) - difference) <= tolerance * abs(difference)


def test_a_constant_network_gives_zero_maps(x: Tensor) -> None:
    class Constant(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1)[:, :5] * 0 + 1

    network, score = Constant(), score_of(TARGET)
    none = {"reduction": pb.CHANNEL_REDUCTION_NONE}
    p = pb.SmoothGrad(samples=3, noise=0.1, form=pb.SMOOTH_GRAD_FORM_SIGNED, **none)
    maps = [
        run(network, saliency(x, score, pb.Saliency(**none))),
        run(network, input_x_gradient(x, score, pb.InputXGradient(**none))),
        run(network, smooth_grad(x, score, p, 0)).map,
        run(network, integrated_gradients(x, x * 0, score, integrated())).map,
    ]
    assert all(not found.any() for found in maps)


def test_midpoints_of_three_times_as_many_have_those_before_among_them() -> None:
    assert midpoints(15)[1::3] == pytest.approx(midpoints(5))


@pytest.mark.parametrize(
    ("fill", "check"),
    [
        (image_pb2.FILL_GREY, lambda f, x: bool((f == 0.5).all())),
        (image_pb2.FILL_BLACK, lambda f, x: not f.any()),
        (image_pb2.FILL_MEAN, lambda f, x: f[:, 5, 5].tolist() == pytest.approx([0.1, 0.2, 0.3])),
        (image_pb2.FILL_BLUR, lambda f, x: 0 < f.std() < x.std() / 2),
        (image_pb2.FILL_NOISE, lambda f, x: 0.25 < f.std() < 0.33 and f.min() >= 0 and f.max() < 1),
    ],
)
def test_fills(x: Tensor, fill: Any, check: Callable[[Tensor, Tensor], bool]) -> None:
    found = filled(x, fill, mean=[0.1, 0.2, 0.3], sigma=3, seed=1)
    assert found.shape == x.shape and found.dtype == x.dtype
    assert check(found, x)
    assert torch.equal(found, filled(x, fill, mean=[0.1, 0.2, 0.3], sigma=3, seed=1))
    filled(x, fill, mean=[0.1, 0.2, 0.3], sigma=100, seed=1)


@pytest.fixture(
    params=["small", "alexnet", pytest.param("vgg11", marks=pytest.mark.slow), "resnet18"]
)
def case(request: pytest.FixtureRequest) -> tuple[Small, Tensor]:
    """A network and a picture of its size."""
    if request.param == "small":
        return Small(small_network(1)), picture(12, 5)
    return calibrated(request.param, 64), picture(64, 5)


@pytest.mark.filterwarnings("ignore:Input Tensor 0 did not already require gradients")
class TestAgainstCaptum:
    """captum does the same with other defaults, which are given here."""

    def test_saliency(self, case: tuple[Small, Tensor]) -> None:
        from captum.attr import Saliency

        network, x = case
        expected = Saliency(network.module).attribute(x[None], target=TARGET, abs=False)[0]
        none = pb.Saliency(reduction=pb.CHANNEL_REDUCTION_NONE)
        same(run(network, saliency(x, score_of(TARGET), none)), expected.permute(1, 2, 0), 1e-6)

    def test_input_x_gradient(self, case: tuple[Small, Tensor]) -> None:
        from captum.attr import InputXGradient

        network, x = case
        expected = InputXGradient(network.module).attribute(x[None], target=TARGET)[0]
        p = pb.InputXGradient(reduction=pb.CHANNEL_REDUCTION_NONE)
        found = run(network, input_x_gradient(x, score_of(TARGET), p))
        same(found, expected.detach().permute(1, 2, 0), 1e-6)

    def test_integrated_gradients(self, case: tuple[Small, Tensor]) -> None:
        from captum.attr import IntegratedGradients

        network, x = case
        baseline = x.flip(1) / 2
        expected = IntegratedGradients(network.module).attribute(
            x[None], baseline[None], TARGET, n_steps=12, method="riemann_middle"
        )[0]
        p = integrated(steps=4, max_steps=12, tolerance=1e-15)
        found = run(network, integrated_gradients(x, baseline, score_of(TARGET), p))
        same(found.map, expected.permute(1, 2, 0), 1e-6)
        assert found.steps == 12
