"""The networks that ConvLens brings itself."""

import json
from collections.abc import Callable, Mapping
from typing import final

from convlens.v1 import network_pb2
from convlens.workers.builders.builder import (
    RANDOM,
    Builder,
    BuildError,
    Built,
    Order,
    is_file_name,
)


@final
class Bundled(Builder):
    """`bundled:NAME`, by default with the entry's own name."""

    def check_name(self, name: str) -> None:
        """Knows the names below."""
        if name not in BUNDLED:
            raise ValueError(
                f"no bundled network {name}; there are: {', '.join(BUNDLED)}. Another one needs "
                "builder: torchvision:NAME, timm:NAME or MODULE:FUNCTION"
            )

    def check_weights(self, name: str, weights: str | None) -> None:
        """Bundled weights have no names: there is one set for each network."""
        if weights is not None and weights != RANDOM and not is_file_name(weights):
            raise ValueError(
                f"is {weights!r}; leave it out for the bundled weights of {name}, or name a file "
                "(.safetensors, .pth, .pt) or random"
            )

    def fetch(self, name: str, weights: str) -> None:
        """They are here."""

    def build(self, order: Order) -> Built:
        """The network, with its own weights unless others are given."""
        if order.arguments:
            raise BuildError("arguments", "a bundled network takes none; leave them out")
        return BUNDLED[order.name](order)


def _shapes(order: Order) -> Built:
    """The small VGG-style network that knows ten drawn shapes."""
    from convlens.workers.builders.weights import load_into, seeded
    from convlens.workers.shapes import network as shapes

    with seeded():
        body = shapes.build()
    if order.weights != RANDOM:
        load_into(body, order.file or shapes.WEIGHTS)
    return Built(
        body,
        network_pb2.InputGeometry(
            height=shapes.INPUT_SIZE,
            width=shapes.INPUT_SIZE,
            channels=len(shapes.MEAN),
            resize=shapes.INPUT_SIZE,
            interpolation=network_pb2.INTERPOLATION_BILINEAR,
            mean=shapes.MEAN,
            std=shapes.STD,
        ),
        shapes.LABELS,
        [] if order.weights else [_shapes_accuracy()],
    )


BUNDLED: Mapping[str, Callable[[Order], Built]] = {"shapes": _shapes}


def _shapes_accuracy() -> network_pb2.Accuracy:
    """What the training script found on pictures that it never trained on."""
    from convlens.workers.shapes import network as shapes

    report = shapes.WEIGHTS.with_name("training.json").read_text(encoding="utf-8")
    figures = json.loads(report)["held_out"]
    dataset = f"{figures['pictures']} drawn pictures, seeds from {figures['first_seed']}"
    return network_pb2.Accuracy(dataset=dataset, top1=figures["top1"])
