"""The networks that ship with ConvLens."""

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


BUNDLED: Mapping[str, Callable[[torch.device], ServedNetwork]] = {"shapes": load_shapes}
