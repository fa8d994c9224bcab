"""Explanations as a worker serves them, in single precision, against captum in the same layout.

Rounding alone can send a gradient another way where two inputs of a pooling are nearly equal, so
that a few items may differ.
"""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import captum.attr
import numpy as np
import pytest
import torch
from google.protobuf.message import Message
from torch import Tensor, nn

from convlens.v1 import explanation_methods_pb2 as pb
from convlens.v1 import explanation_pb2, network_pb2, tensor_pb2
from convlens.v1.image_pb2 import Image
from convlens.v1.target_pb2 import Target
from convlens.workers.config import PoolConfig
from convlens.workers.network import ServedNetwork
from convlens.workers.worker import AnalysisWorker
from tests.workers.methods.calibrated import calibrated, picture
from tests.workers.test_judging import ask, attributions, within

SIZE, TARGET = 64, 2
CLASSES = [f"class {number}" for number in range(10)]
# Of the largest value, by method; those of occlusion are differences of scores, which loses digits.
LIMITS = [1e-5, 1e-5, 1e-5, 1e-5, 5e-5]
LAYERS = {"alexnet": "features.11", "vgg11": "features.19", "resnet18": "layer4"}
NONE: Any = {"reduction": pb.CHANNEL_REDUCTION_NONE}


def wanted(network: str) -> list[Message]:
    return [
        pb.Saliency(**NONE),
        pb.IntegratedGradients(steps=6, max_steps=6, **NONE),
        pb.GuidedBackprop(**NONE),
        pb.GradCam(layer=LAYERS[network], relu=False),
        pb.Occlusion(window=24, stride=20),
    ]


@pytest.fixture(scope="module", params=LAYERS)
def worker(request: pytest.FixtureRequest) -> Iterator[AnalysisWorker]:
    module = copy.deepcopy(calibrated(request.param, SIZE).module).float()
    facts = network_pb2.Network(name=request.param, version="1", labels=CLASSES)
    geometry = network_pb2.InputGeometry(
        channels=3, height=SIZE, width=SIZE, mean=[0, 0, 0], std=[1, 1, 1], resize=SIZE
    )
    facts.input.CopyFrom(geometry)
    network = ServedNetwork(module, facts, torch.device("cpu"))
    network.dissect()
    made = AnalysisWorker(network, PoolConfig())
    yield made
    made.close()


def served(worker: AnalysisWorker, pictures: list[Tensor]) -> Iterator[list[Tensor]]:
    """Every method's map of each picture."""
    images: list[Image] = []
    for x in pictures:
        pixels = x.movedim(0, -1).contiguous()
        tensor = tensor_pb2.Tensor(
            dtype=tensor_pb2.DATA_TYPE_FLOAT32, shape=pixels.shape, data=pixels.numpy().tobytes()
        )
        images.append(Image(tensor=tensor))
    name = worker._network.facts.name
    methods = [within(pb.ExplanationMethod, each) for each in wanted(name)]
    for start in range(0, len(images), 5):
        asked = explanation_pb2.ExplainRequest(
            images=images[start : start + 5],
            methods=methods,
            targets=[Target(class_index=TARGET)],
        )
        found = [numbers(each) for each in attributions(ask(worker, asked))]
        for first in range(0, len(found), len(methods)):
            yield found[first : first + len(methods)]


def numbers(found: explanation_pb2.Attribution) -> Tensor:
    values = np.frombuffer(found.map.data, "<f4").reshape(found.map.shape)
    return torch.from_numpy(values.copy())


def by_captum(network: ServedNetwork, x: Tensor) -> Iterator[Tensor]:
    """The same maps; captum does not interpolate linearly unless it is told so."""
    module, points = network.module, network.place(x[None])
    colours: list[Callable[[], Tensor]] = [
        lambda: captum.attr.Saliency(module).attribute(points, TARGET, abs=False),
        lambda: captum.attr.IntegratedGradients(module).attribute(
            points, 0, TARGET, n_steps=6, method="riemann_middle"
        ),
        lambda: captum.attr.GuidedBackprop(module).attribute(points, TARGET),
    ]
    for method in colours:
        yield method()[0].movedim(0, -1).float()
    layer = module.body.get_submodule(LAYERS[network.facts.name])
    coarse: Any = captum.attr.LayerGradCam(module, layer).attribute(points, TARGET)
    yield nn.functional.interpolate(coarse.detach(), (SIZE, SIZE), mode="bilinear")[0, 0]
    yield captum.attr.Occlusion(module).attribute(
        points, (3, 24, 24), (3, 20, 20), baselines=0.5, target=TARGET, perturbations_per_eval=8
    )[0, 0]


@pytest.mark.filterwarnings("ignore:Input Tensor 0 did not already require gradients")
@pytest.mark.filterwarnings("ignore:Setting backward hooks on ReLU activations")
@pytest.mark.parametrize("count", [3, pytest.param(50, marks=pytest.mark.slow)])
def test_what_is_served_is_what_captum_finds(worker: AnalysisWorker, count: int) -> None:
    pictures = [picture(SIZE, 100 + seed).float() for seed in range(count)]
    network = worker._network
    apart, alike = [], []
    for x, maps in zip(pictures, served(worker, pictures), strict=True):
        pairs = [*zip(maps, by_captum(network, x), strict=True)]
        assert all(a.shape == b.shape and b.abs().max() > 0 for a, b in pairs)
        apart.append([float((a - b).abs().max() / b.abs().max()) for a, b in pairs])
        alike.append([cosine(a, b) for a, b in pairs])
    assert (np.median(apart, axis=0) <= LIMITS).all(), np.median(apart, axis=0)
    assert ((np.array(alike) >= 0.999).mean(axis=0) >= 0.99).all(), np.array(alike)


def cosine(a: Tensor, b: Tensor) -> float:
    return float(nn.functional.cosine_similarity(a.flatten().double(), b.flatten().double(), 0))
