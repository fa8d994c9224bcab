"""Networks and layers that a method has no answer for, as a worker says it."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torchvision.models import VisionTransformer
from torchvision.models.convnext import CNBlockConfig, ConvNeXt

from convlens.contract import Failure
from convlens.v1 import explanation_methods_pb2 as methods
from convlens.v1 import image_pb2, network_pb2
from convlens.workers.config import PoolConfig
from convlens.workers.network import ServedNetwork
from convlens.workers.worker import AnalysisWorker
from tests.workers.test_judging import ask, request, told

SIDE = 32
LABELS = [f"class {number}" for number in range(10)]


def vision_transformer() -> nn.Module:
    return VisionTransformer(SIDE, 16, 2, 2, 16, 32, num_classes=10)


def conv_next() -> nn.Module:
    return ConvNeXt([CNBlockConfig(8, 16, 1), CNBlockConfig(16, None, 1)], num_classes=10)


def swishing(activation: type[nn.Module]) -> nn.Module:
    layers = [nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), activation()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10))


BLOCK = "encoder.layers.encoder_layer_0"
# The network, the layer to project from, and the first that stand in the way.
CASES: dict[str, tuple[Callable[[], nn.Module], str, list[str]]] = {
    "ViT": (vision_transformer, "heads", [f"{BLOCK}.self_attention", f"{BLOCK}.mlp.1"]),
    "ConvNeXt": (conv_next, "classifier.2", ["features.1.0.block.4", "features.3.0.block.4"]),
    "SiLU": (partial(swishing, nn.SiLU), "6", ["3"]),
    "hardswish": (partial(swishing, nn.Hardswish), "6", ["3"]),
}


def served(module: nn.Module) -> ServedNetwork:
    facts = network_pb2.Network(name="own", version="1", labels=LABELS)
    geometry = network_pb2.InputGeometry(
        channels=3,
        height=SIDE,
        width=SIDE,
        mean=[0.5] * 3,
        std=[0.5] * 3,
        resize=SIDE,
        interpolation=image_pb2.INTERPOLATION_BILINEAR,
    )
    facts.input.CopyFrom(geometry)
    network = ServedNetwork(module, facts, torch.device("cpu"))
    network.dissect()
    return network


@pytest.fixture
def worker_of() -> Iterator[Callable[[nn.Module], AnalysisWorker]]:
    made: list[AnalysisWorker] = []

    def make(module: nn.Module) -> AnalysisWorker:
        made.append(AnalysisWorker(served(module.eval()), PoolConfig()))
        return made[-1]

    yield make
    for worker in made:
        worker.close()


def outcomes(worker: AnalysisWorker, asked: Any) -> list[Any]:
    """What each method gives for the only picture."""
    [result] = ask(worker, asked).results
    return list(result.explanation.attributions)


@pytest.mark.parametrize("case", CASES)
def test_rules_for_rectifiers_name_the_layers_that_have_none(
    worker_of: Any, pictures: list[Path], case: str
) -> None:
    make, last, expected = CASES[case]
    torch.manual_seed(0)
    worker = worker_of(make())
    ruled = {
        "Guided Backprop": methods.GuidedBackprop(),
        "Guided Grad-CAM": methods.GuidedGradCam(),
        "Deconvnet": methods.Deconvnet(layer=last),
    }
    asked = request(pictures[0], [methods.Saliency(), *ruled.values()], [])
    plain, *found = outcomes(worker, asked)
    assert plain.HasField("attribution")
    for title, each in zip(ruled, found, strict=True):
        assert each.error.code == 9, "FAILED_PRECONDITION"
        reason, sentence = told(Failure.from_status(each.error))
        assert reason == "METHOD_NOT_APPLICABLE"
        opening = f"{title} cannot be used with own@1: it has no rule for "
        assert sentence.startswith(opening)
        names = sentence.removeprefix(opening).rstrip(".").split(" and ")[0].split(", ")
        assert names[: len(expected)] == expected
        assert set(names) <= set(worker._network.trace.nodes)


@pytest.mark.parametrize(("layer", "shape"), [(BLOCK, [5, 16]), ("heads", [10])])
def test_grad_cam_of_a_layer_without_maps_asks_for_another(
    worker_of: Any, pictures: list[Path], layer: str, shape: list[int]
) -> None:
    wanted = methods.GradCam(layer=layer)
    asked = request(pictures[0], [wanted], [])
    [found] = outcomes(worker_of(vision_transformer()), asked)
    assert found.error.code == 9, "FAILED_PRECONDITION"
    assert told(Failure.from_status(found.error)) == (
        "LAYER_NOT_APPLICABLE",
        f"Layer '{layer}' of own@1 cannot be used so: its output {shape} is no maps "
        "[maps, rows, columns]; choose such a layer.",
    )
