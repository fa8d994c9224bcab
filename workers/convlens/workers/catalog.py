"""The networks that ship with ConvLens."""

import json
from collections.abc import Callable, Mapping

import torch

from convlens.v1 import network_pb2
from convlens.workers.network import ServedNetwork
from convlens.workers.shapes import network as shapes


def load_shapes(device: torch.device) -> ServedNetwork:
    """The small VGG-style network that knows ten drawn shapes."""
    size = shapes.INPUT_SIZE
    facts = network_pb2.Network(
        name="shapes",
        version="1",
        kind=network_pb2.NETWORK_KIND_IMAGE,
        labels=shapes.LABELS,
        accuracies=[shapes_accuracy()],
        input=network_pb2.InputGeometry(
            height=size,
            width=size,
            channels=3,
            resize=size,
            interpolation=network_pb2.INTERPOLATION_BILINEAR,
            mean=shapes.MEAN,
            std=shapes.STD,
        ),
    )
    return ServedNetwork(shapes.load(), facts, device)


def shapes_accuracy() -> network_pb2.Accuracy:
    """What the training script found on pictures that it never trained on."""
    report = shapes.WEIGHTS.with_name("training.json").read_text(encoding="utf-8")
    figures = json.loads(report)["held_out"]
    dataset = f"{figures['pictures']} drawn pictures, seeds from {figures['first_seed']}"
    return network_pb2.Accuracy(dataset=dataset, top1=figures["top1"])


BUNDLED: Mapping[str, Callable[[torch.device], ServedNetwork]] = {"shapes": load_shapes}
