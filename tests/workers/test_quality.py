"""The measures of quality, against slow loops straight from their papers."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn
from torchvision import models

from convlens.contract import ErrorReason, Failure
from convlens.v1 import explanation_methods_pb2 as methods
from convlens.v1 import quality_pb2 as pb
from convlens.workers.methods.goals import score_of
from convlens.workers.methods.input_x_gradient import input_x_gradient
from convlens.workers.methods.randomness import generator_of
from convlens.workers.methods.saliency import saliency
from convlens.workers.methods.smooth_grad import smooth_grad
from convlens.workers.quality import (
    Curve,
    Variants,
    all_weights,
    completeness,
    deletion,
    insertion,
    max_sensitivity,
    missed,
    model_randomization,
    through,
    weights_from,
)
from convlens.workers.quality.curves import ranks
from convlens.workers.quality.randomization import rank_correlation
from convlens.workers.quality.redrawn import Redrawn, redrawn
from convlens.workers.runner import Pass, Steps, side_by_side
from tests.workers import networks
from tests.workers.methods.small import Small, run

TARGET = 2
SIGNED = methods.Saliency(reduction=methods.CHANNEL_REDUCTION_SUM_SIGNED)
NONE = methods.Saliency(reduction=methods.CHANNEL_REDUCTION_NONE)


def small_network(seed: int) -> nn.Module:
    """A random network whose probabilities are far from certain, and from each other."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 8, 3),
        nn.Softplus(),
        nn.Flatten(),
        nn.Linear(8 * 4 * 4, 5),
    )


def linear_network(weights: Tensor) -> nn.Module:
    """Two scores: the sum of weights [3, height, width] times pixels, and nothing."""
    layer = nn.Linear(weights.numel(), 2)
    layer.weight.data = torch.stack([weights.flatten(), torch.zeros(weights.numel())])
    layer.bias.data.zero_()
    return nn.Sequential(nn.Flatten(), layer)


@pytest.fixture(params=range(3))
def network(request: pytest.FixtureRequest) -> Small:
    return Small(small_network(request.param))


@pytest.fixture
def x() -> Tensor:
    return torch.rand(3, 12, 12, generator=torch.Generator().manual_seed(7), dtype=torch.float64)


@pytest.fixture
def other() -> Tensor:
    """What covers the pixels of x."""
    return torch.rand(3, 12, 12, generator=torch.Generator().manual_seed(8), dtype=torch.float64)


def gradient(network: nn.Module, x: Tensor) -> Tensor:
    """One picture, one gradient: the slow way."""
    x = x.clone().requires_grad_()
    network(x[None])[0, TARGET].backward()
    assert x.grad is not None
    return x.grad


def probability(network: nn.Module, x: Tensor, target: int = TARGET) -> float:
    return float(network(x[None])[0].softmax(0)[target])


# Deletion and insertion.


def reference_curve(
    network: nn.Module, map_: Tensor, strong: Tensor, weak: Tensor, steps: int
) -> list[float]:
    """Pixel after pixel, the strongest first; the picture is looked at after each portion."""
    _, height, width = strong.shape
    places = [(row, column) for row in range(height) for column in range(width)]
    places.sort(key=lambda place: -float(map_[place].sum()))
    shown, curve, done = weak.clone(), [], 0
    for step in range(steps + 1):
        while done < step * len(places) // steps:
            row, column = places[done]
            shown[:, row, column] = strong[:, row, column]
            done += 1
        curve.append(probability(network, shown))
    return curve


@pytest.mark.parametrize("steps", [2, 7, 64, 144, 200])
@pytest.mark.parametrize("channels", [False, True])
def test_deletion_and_insertion(
    network: Small, x: Tensor, other: Tensor, steps: int, channels: bool
) -> None:
    map_ = gradient(network.module, x).movedim(0, 2)
    map_ = map_ if channels else map_.sum(2)
    deleted = run(network, deletion(x, map_, TARGET, pb.Deletion(steps=steps), other))
    inserted = run(network, insertion(x, map_, TARGET, pb.Insertion(steps=steps), other))
    for found, (strong, weak) in ((deleted, (other, x)), (inserted, (x, other))):
        expected = reference_curve(network.module, map_, strong, weak, steps)
        assert max(expected) > min(expected) + 1e-3, "nothing is compared"
        assert found.probabilities.tolist() == pytest.approx(expected, rel=1e-9)
        area = sum((a + b) / 2 / steps for a, b in pairwise(expected))
        assert found.area == pytest.approx(area, rel=1e-9)


def test_among_equals_the_upper_left_pixel_is_first() -> None:
    map_ = torch.tensor([[1.0, 2.0, 1.0], [2.0, 0.0, -3.0]])
    assert ranks(map_).tolist() == [[2, 0, 3], [1, 4, 5]]


def test_what_speaks_against_the_class_is_covered_last(x: Tensor) -> None:
    weights = torch.zeros(3, 12, 12).double()
    weights[:, 0], weights[:, 11] = 0.1, -0.1
    network = Small(linear_network(weights))
    found = run(network, deletion(x, weights.sum(0), 0, pb.Deletion(steps=12), x * 0))
    curve = found.probabilities
    assert curve[0] > curve[1] == curve[11] < curve[12] == 0.5


def test_no_order_is_better_than_that_of_a_linear_network(x: Tensor) -> None:
    weights = torch.randn(3, 12, 12, generator=torch.Generator().manual_seed(3)).double()
    network, black = Small(linear_network(weights)), torch.zeros_like(x)

    def areas(map_: Tensor) -> tuple[float, float]:
        a = run(network, deletion(x, map_, 0, pb.Deletion(steps=144), black), rows=64).area
        b = run(network, insertion(x, map_, 0, pb.Insertion(steps=144), black), rows=64).area
        return a, b

    perfect = (weights * x).sum(0)
    least, most = areas(perfect)
    assert least < most
    for seed in range(10):
        generator = torch.Generator().manual_seed(seed)
        covered, uncovered = areas(torch.rand(12, 12, generator=generator))
        assert covered > least and uncovered < most
    worst = areas(-perfect)
    assert worst == (pytest.approx(most), pytest.approx(least))


def test_the_curve_of_a_constant_network_is_flat(x: Tensor, other: Tensor) -> None:
    network = Small(linear_network(torch.zeros(3, 12, 12).double()))
    found = run(network, deletion(x, x.sum(0), 0, pb.Deletion(steps=9), other))
    assert found.probabilities.tolist() == [0.5] * 10
    assert found.area == pytest.approx(0.5)


def test_all_points_of_a_curve_are_one_pass(network: Small, x: Tensor, other: Tensor) -> None:
    steps = deletion(x, x.sum(0), TARGET, pb.Deletion(steps=32), other)
    asked = next(steps)
    assert isinstance(asked, Pass) and len(asked.points) == 33 and not asked.kind.gradient
    assert torch.equal(asked.points[0:1][0], x) and torch.equal(asked.points[32:33][0], other)
    assert torch.equal(asked.points[5:9][2], asked.points[7:8][0])


# Completeness.


def test_completeness(network: Small, x: Tensor, other: Tensor) -> None:
    map_ = x.sum(0)
    found = run(network, completeness(x, map_, TARGET, other))
    scores = [float(network.module(each[None])[0, TARGET]) for each in (x, other)]
    assert found == pytest.approx(float(map_.sum()) - (scores[0] - scores[1]), rel=1e-9)
    assert missed(map_, *scores) == pytest.approx(found)
    assert network.points == 2


def test_the_attributions_of_a_linear_network_are_complete(x: Tensor) -> None:
    network = Small(linear_network(torch.randn(3, 12, 12).double()))
    p = methods.InputXGradient(reduction=methods.CHANNEL_REDUCTION_NONE)
    map_ = run(network, input_x_gradient(x, score_of(0), p))
    found = run(network, completeness(x, map_, 0, torch.zeros_like(x)))
    assert abs(found) < 1e-9 < float(map_.sum().abs())


# Max-Sensitivity.


def sensitivity(network: Small, x: Tensor, samples: int, at_once: int = 3, seed: int = 5) -> float:
    def method(near: Tensor) -> Steps[Tensor]:
        return saliency(near, score_of(TARGET), SIGNED)

    p = pb.MaxSensitivity(samples=samples, radius=0.1)
    return run(network, max_sensitivity(x, run(network, method(x)), method, p, seed, at_once))


@pytest.mark.parametrize("samples", [1, 3, 10])
def test_max_sensitivity(network: Small, x: Tensor, samples: int) -> None:
    x[0, :6] = 0
    x[1, 6:] = 1
    map_, changes = gradient(network.module, x).sum(0), []
    for sample in range(samples):
        draw = torch.rand(3, 12, 12, generator=generator_of(5, "max_sensitivity", sample))
        near = (x + 0.1 * (2 * draw.double() - 1)).clamp(min=0, max=1)
        assert 0.09 < float((near - x).abs().max()) <= 0.1
        changes.append(float((gradient(network.module, near).sum(0) - map_).norm() / map_.norm()))
    assert sensitivity(network, x, samples) == pytest.approx(max(changes), rel=1e-9)
    assert max(changes) > 1e-3


def test_how_many_samples_are_under_way_changes_nothing(network: Small, x: Tensor) -> None:
    found = [sensitivity(network, x, 7, at_once) for at_once in (1, 2, 7, 100)]
    assert found == pytest.approx([found[0]] * 4, rel=1e-12)
    assert sensitivity(network, x, 7, seed=6) != pytest.approx(found[0], rel=1e-3)


def test_the_gradient_of_a_linear_network_is_not_sensitive(x: Tensor) -> None:
    linear = linear_network(torch.randn(3, 12, 12).double())
    three = nn.Sequential(linear, nn.Linear(2, 3))
    assert sensitivity(Small(three), x, 5) == 0


# Model randomisation.


@pytest.mark.parametrize("round_to", [None, 1, 0])
def test_rank_correlation_is_spearmans(round_to: int | None) -> None:
    generator = torch.Generator().manual_seed(1)
    a = torch.randn(9, 8, generator=generator).double()
    b = a + torch.randn(9, 8, generator=generator).double()
    if round_to is not None:
        a, b = a.round(decimals=round_to), b.round(decimals=round_to)
        assert len(a.unique()) < a.numel(), "some are equal"
    expected: Any = spearmanr(a.flatten(), b.flatten())
    assert 0.3 < expected.statistic < 0.9
    assert rank_correlation(a, b) == pytest.approx(expected.statistic, rel=1e-9)


def test_where_all_is_the_same_nothing_correlates() -> None:
    assert rank_correlation(torch.rand(4, 4), torch.ones(4, 4)) == 0


def reference_redrawn(module: nn.Module, names: frozenset[str], seed: int) -> dict[str, Tensor]:
    """What the parameters and buffers shall be, one after the other."""
    expected: dict[str, Tensor] = {}
    for name, value in module.state_dict().items():
        owner = module.get_submodule(name.rpartition(".")[0])
        kind = name.rpartition(".")[2]
        if name not in names:
            expected[name] = value
        elif isinstance(owner, nn.BatchNorm2d):
            new = {"weight": 1, "bias": 0, "running_mean": 0, "running_var": 1}
            expected[name] = torch.full_like(value, new.get(kind, 0))
        else:
            draws = generator_of(seed, "model_randomization", name)
            draw = torch.randn(value.shape, generator=draws).double()
            inputs = value.numel() / value.shape[0]
            mean, deviation = (0, (2 / inputs) ** 0.5)
            if value.ndim == 1:
                mean, deviation = value.mean(), value.std(correction=0)
            expected[name] = mean + deviation * draw
    return expected


@pytest.mark.parametrize("layer", ["", "0", "1", "2", "4", "7"])
def test_weights_are_drawn_anew_from_a_layer_upward(network: Small, layer: str) -> None:
    module = network.module
    before = {name: value.clone() for name, value in module.state_dict().items()}
    if layer:
        names = weights_from(network, network.trace.nodes[layer].calls.start)
        lowest = int(layer)
    else:
        names, lowest = all_weights(network), 0
    weights = {name for name in before if "num_batches" not in name and int(name[0]) >= lowest}
    assert names - {"1.num_batches_tracked"} == weights
    found = redrawn(network, names, seed=4)
    expected = reference_redrawn(module, names, 4)
    for name, value in found.module.state_dict().items():
        assert torch.allclose(value.double(), expected[name].double(), rtol=1e-12, atol=0), name
        same_memory = value.data_ptr() == module.state_dict()[name].data_ptr()
        assert same_memory == (int(name[0]) < lowest)
        assert torch.equal(module.state_dict()[name], before[name]), "the network stays as it is"
    changed = [name for name in weights if not torch.equal(expected[name], before[name])]
    assert len(changed) >= 2
    assert found.trace is network.trace


def test_what_is_drawn_depends_on_the_name_and_the_seed_alone(network: Small) -> None:
    top = weights_from(network, network.trace.nodes["7"].calls.start)
    first, again, other, whole = (
        redrawn(network, names, seed).module.state_dict()["7.weight"]
        for names, seed in ((top, 1), (top, 1), (top, 2), (all_weights(network), 1))
    )
    assert torch.equal(first, again) and torch.equal(first, whole)
    assert not torch.allclose(first, other)


def transformer() -> nn.Module:
    return models.VisionTransformer(
        image_size=96, patch_size=16, num_layers=6, num_heads=2, hidden_dim=32, mlp_dim=64
    )


@pytest.mark.parametrize("name", ["resnet18", "googlenet", "mobilenet_v2", "transformer"])
def test_deep_networks_still_answer(name: str) -> None:
    module = transformer() if name == "transformer" else networks.build(name, weights=True)
    network = Small(module, (3, 96, 96))
    pictures = torch.rand(2, 3, 96, 96, dtype=torch.float64)
    scores = redrawn(network, all_weights(network), 0).scores(pictures)
    assert bool(scores.isfinite().all())
    assert 1e-3 < float(scores.std(dim=1).min()) < 1e4
    assert float((scores[0] - scores[1]).abs().max()) > 1e-4


class TiedAndFrozen(nn.Module):
    """A weight under two names, a batch norm without weights, and a buffer that is a constant."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 6)
        self.norm = nn.BatchNorm1d(6, affine=False)
        self.last = nn.Linear(6, 6)
        self.last.weight = self.first.weight
        self.register_buffer("scale", torch.tensor(3.0))
        self.norm.running_mean = torch.full((6,), 0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.norm(self.first(x.flatten(1)))) * self.get_buffer("scale")


def test_tied_weights_stay_tied_and_constants_constant() -> None:
    network = Small(TiedAndFrozen(), (1, 2, 3))
    found: Any = redrawn(network, all_weights(network), 0).module
    assert found.first.weight is found.last.weight
    assert not torch.equal(found.first.weight, network.module.get_parameter("first.weight"))
    assert float(found.scale) == 3
    assert not found.norm.running_mean.any()
    above = redrawn(network, weights_from(network, network.trace.nodes["norm"].calls.start), 0)
    assert "first.weight" in weights_from(network, network.trace.nodes["last"].calls.start)
    found = above.module
    assert torch.equal(found.first.bias, network.module.get_parameter("first.bias"))


def correlation(
    network: Small, variant: Redrawn, method: Callable[[], Steps[Tensor]], rows: int = 4
) -> float:
    map_ = run(network, method(), rows)
    return run(network, model_randomization(map_, through(method(), variant)), rows)


def test_model_randomization(network: Small, x: Tensor) -> None:
    for layer in ("0", "4", "7"):
        names = weights_from(network, network.trace.nodes[layer].calls.start)
        variant = redrawn(network, names, seed=1)
        found = correlation(network, variant, lambda: saliency(x, score_of(TARGET), NONE))
        maps = [gradient(each.module, x).abs().movedim(0, 2) for each in (network, variant)]
        expected: Any = spearmanr(maps[0].flatten(), maps[1].flatten())
        assert found == pytest.approx(expected.statistic, rel=1e-9)
        assert found < 0.95


def test_the_gradient_depends_on_the_weights_and_edges_do_not(x: Tensor) -> None:
    def edges() -> Steps[Tensor]:
        yield Pass(x[None])
        return x[:, 1:].sum(0) - x[:, :-1].sum(0)

    found: list[float] = []
    for seed in range(8):
        network = Small(small_network(seed))
        variant = redrawn(network, all_weights(network), seed)
        found.append(correlation(network, variant, lambda: saliency(x, score_of(TARGET), SIGNED)))
        assert correlation(network, variant, edges) == pytest.approx(1)
    assert abs(sum(found) / len(found)) < 0.2 and max(map(abs, found)) < 0.5


def test_every_pass_of_a_method_runs_through_the_variant(x: Tensor) -> None:
    network = Small(small_network(0))
    variant = redrawn(network, all_weights(network), 0)
    p = methods.SmoothGrad(
        samples=3,
        noise=0.1,
        form=methods.SMOOTH_GRAD_FORM_ABSOLUTE,
        reduction=methods.CHANNEL_REDUCTION_MAX_ABS,
    )

    def nested() -> Steps[Any]:
        first = yield Pass(x[None], score_of(TARGET))
        branches = [smooth_grad(x, score_of(TARGET), p, seed) for seed in range(2)]
        found = yield from side_by_side(branches)
        return [first.worth, *(each.map for each in found if not isinstance(each, Failure))]

    expected = run(Small(variant.module), nested())
    found = run(network, through(nested(), variant))
    plain = run(network, nested())
    assert len(found) == 3
    for a, b, c in zip(found, expected, plain, strict=True):
        assert torch.allclose(a, b, rtol=1e-12) and not torch.allclose(a, c, rtol=1e-3)


def test_what_a_variant_breaks_is_told(x: Tensor) -> None:
    network = Small(small_network(0))

    def late() -> Steps[Tensor]:
        yield Pass(x[None])
        raise Failure(ErrorReason.ERROR_REASON_DEADLINE_EXCEEDED, stage="in a test")

    with pytest.raises(Failure, match="in a test"):
        run(network, model_randomization(x, through(late(), redrawn(network, (), 0))))

    def broken() -> Steps[Tensor]:
        yield Pass(x[None])
        return x / 0

    found = run(network, model_randomization(x, broken()))
    assert found != found, "NaN"


def test_variants_are_made_once_and_few_are_kept(network: Small) -> None:
    variants, names = Variants(network), all_weights(network)
    first = variants.of(names, 1)
    assert variants.of(names, 1) is first
    assert variants.of(names, 2) is not first
    assert variants.of(names, 1) is first
    top = weights_from(network, network.trace.nodes["7"].calls.start)
    variants.of(top, 1)
    assert variants.of(names, 1) is first, "the one that was used last"
    for seed in (3, 4):
        variants.of(names, seed)
    assert variants.of(names, 1) is not first


def test_alone_and_in_company_are_the_same(network: Small, x: Tensor, other: Tensor) -> None:
    pictures, p = [x, other, x.flip(1)], pb.Deletion(steps=10)

    def curves() -> list[Steps[Curve]]:
        return [deletion(each, each.sum(0), TARGET, p, other) for each in pictures]

    together = run(network, side_by_side(curves()), rows=7)
    for found, alone in zip(together, curves(), strict=True):
        expected = run(network, alone, rows=1)
        assert torch.allclose(found.probabilities, expected.probabilities, rtol=1e-12)
