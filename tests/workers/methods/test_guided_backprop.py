"""Guided backprop against the paper, and against captum where that is right."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from convlens.v1 import explanation_methods_pb2 as pb
from convlens.workers.methods.goals import score_of
from convlens.workers.methods.guided_backprop import guided_backprop
from convlens.workers.methods.reductions import reduced
from tests.workers.methods.calibrated import calibrated, picture
from tests.workers.methods.chains import chain, chains
from tests.workers.methods.functions_as_modules import functions_as_modules
from tests.workers.methods.layer_by_layer import Ascent
from tests.workers.methods.small import run

TARGET = 2
NONE = pb.GuidedBackprop(reduction=pb.CHANNEL_REDUCTION_NONE)


def same(a: Tensor, b: Tensor, limit: float = 1e-9) -> None:
    assert a.shape == b.shape
    assert b.abs().max() > 0, "nothing is compared"
    assert (a - b).abs().max() <= limit * b.abs().max()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", chains())
def test_guided_backprop_is_the_papers(name: str, seed: int) -> None:
    layers, x = chain(name, seed), picture(13, seed)
    found = run(layers, guided_backprop(x, score_of(TARGET), NONE))
    seed_ = torch.zeros(10, dtype=torch.float64)
    seed_[TARGET] = 1
    expected = Ascent(layers, x).down(len(layers) - 1, seed_, guided=True)
    same(found, expected.movedim(0, -1))


@pytest.mark.parametrize("reduction", list(pb.ChannelReduction.values())[1:])
def test_colours_become_one_value_as_asked(reduction: Any) -> None:
    layers, x = chain("plain", 0), picture(13, 0)
    p = pb.GuidedBackprop(reduction=reduction)
    whole = run(layers, guided_backprop(x, score_of(TARGET), NONE)).movedim(-1, 0)
    same(run(layers, guided_backprop(x, score_of(TARGET), p)), reduced(whole, reduction))


def by_captum(module: nn.Module, x: Tensor) -> Tensor:
    from captum.attr import GuidedBackprop

    return GuidedBackprop(module).attribute(x[None], target=TARGET)[0].permute(1, 2, 0)


@pytest.mark.filterwarnings("ignore:Input Tensor 0 did not already require gradients")
@pytest.mark.filterwarnings("ignore:Setting backward hooks on ReLU activations")
class TestAgainstCaptum:
    """captum changes the gradient of ReLU modules; functions go their way untouched."""

    @pytest.mark.parametrize("name", ["alexnet", "vgg11", "resnet18"])
    def test_it_agrees_where_rectifiers_are_modules(self, name: str) -> None:
        body, x = calibrated(name, 64), picture(64, 5)
        expected = by_captum(body.module, x)
        same(run(body, guided_backprop(x, score_of(TARGET), NONE), rows=1), expected, 1e-6)

    @pytest.mark.parametrize("name", ["googlenet", "densenet121"])
    def test_it_is_wrong_where_they_are_functions(self, name: str) -> None:
        body, x = calibrated(name, 64), picture(64, 5)
        found = run(body, guided_backprop(x, score_of(TARGET), NONE), rows=1)
        wrong = by_captum(body.module, x)
        assert (found - wrong).abs().max() > 0.1 * found.abs().max()
        with functions_as_modules(body.module):
            right = by_captum(body.module, x)
        same(found, right, 1e-6)
