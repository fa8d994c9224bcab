"""Builds the networks that a configuration names."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file  # pyright: ignore[reportUnknownVariableType]
from torch import nn

from convlens.v1 import network_pb2
from convlens.workers.config import ConfigError, NetworkEntry
from convlens.workers.network import ServedNetwork
from convlens.workers.shapes import network as shapes

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def load_network(entry: NetworkEntry, device: str = "auto") -> ServedNetwork:
    """The network of an entry, with its weights, on `device`; raises ConfigError."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, name = (entry.builder or f"bundled:{entry.name}").partition(":")
    body, facts = _torchvision(name, entry) if kind == "torchvision" else _bundled(name, entry)
    facts.name, facts.version = entry.name, entry.version
    facts.traffic_weight = entry.traffic_weight
    return ServedNetwork(body, facts, torch.device(device))


def _bundled(name: str, entry: NetworkEntry) -> tuple[nn.Module, network_pb2.Network]:
    if name not in BUNDLED:
        raise ConfigError(f"no bundled network {name}; there are: {', '.join(BUNDLED)}")
    return BUNDLED[name](entry.weights if isinstance(entry.weights, Path) else None)


def _shapes(weights: Path | None) -> tuple[nn.Module, network_pb2.Network]:
    """The small VGG-style network that knows ten drawn shapes."""
    facts = network_pb2.Network(
        kind=network_pb2.NETWORK_KIND_IMAGE,
        labels=shapes.LABELS,
        accuracies=[] if weights else [_shapes_accuracy()],
        input=_input(shapes.INPUT_SIZE, shapes.INPUT_SIZE, shapes.MEAN, shapes.STD),
    )
    return shapes.load(weights or shapes.WEIGHTS), facts


BUNDLED: Mapping[str, Callable[[Path | None], tuple[nn.Module, network_pb2.Network]]] = {
    "shapes": _shapes
}


def _shapes_accuracy() -> network_pb2.Accuracy:
    """What the training script found on pictures that it never trained on."""
    report = shapes.WEIGHTS.with_name("training.json").read_text(encoding="utf-8")
    figures = json.loads(report)["held_out"]
    dataset = f"{figures['pictures']} drawn pictures, seeds from {figures['first_seed']}"
    return network_pb2.Accuracy(dataset=dataset, top1=figures["top1"])


def _torchvision(name: str, entry: NetworkEntry) -> tuple[nn.Module, network_pb2.Network]:
    """A classification network of torchvision, at 224 pixels and ImageNet's normalisation."""
    from torchvision import models  # pyright: ignore[reportMissingTypeStubs]

    if name not in models.list_models(module=models):
        raise ConfigError(f"torchvision has no classification network {name}")
    if entry.weights is None:
        raise ConfigError(
            f"{entry.reference}: torchvision:{name} needs weights: a safetensors file"
        )
    torch.manual_seed(0)
    body: nn.Module = models.get_model(name, weights=None)
    if isinstance(entry.weights, Path):
        body.load_state_dict(load_file(entry.weights))
    labels = [f"class {index}" for index in range(1000)]
    facts = network_pb2.Network(
        kind=network_pb2.NETWORK_KIND_IMAGE,
        labels=labels,
        input=_input(224, 256, IMAGENET_MEAN, IMAGENET_STD),
    )
    return body, facts


def _input(
    size: int, resize: int, mean: tuple[float, ...], std: tuple[float, ...]
) -> network_pb2.InputGeometry:
    return network_pb2.InputGeometry(
        height=size,
        width=size,
        channels=len(mean),
        resize=resize,
        interpolation=network_pb2.INTERPOLATION_BILINEAR,
        mean=mean,
        std=std,
    )
