"""The networks that ConvLens brings itself."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, final

from convlens.v1 import image_pb2, network_pb2
from convlens.v1.network_pb2 import Accuracy
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
        """Knows the checkpoints that a network's training kept; its last weights have no name."""
        if weights in (None, RANDOM) or is_file_name(weights or ""):
            return
        kept = CHECKPOINTS.get(name, {})
        if weights not in kept:
            of_training = f", {', '.join(kept)} for a moment of its training" if kept else ""
            raise ValueError(
                f"is {weights!r}; leave it out for the bundled weights of {name}, or name a file "
                f"(.safetensors, .pth, .pt){of_training}, or random"
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
    from convlens.workers.shapes import network

    return _drawn(order, network.WEIGHTS, _shapes_accuracies)


def _shapes_shortcut(order: Order) -> Built:
    """The same layers, trained to look at a marker in a corner instead of the shape."""
    from convlens.workers.shapes import network

    return _drawn(order, network.SHORTCUT, _shortcut_accuracies)


def _shapes_robust(order: Order) -> Built:
    """The same layers, trained on to hold against pictures that are changed to fool them."""
    from convlens.workers.shapes import network

    return _drawn(order, network.ROBUST, _robust_accuracies)


BUNDLED: Mapping[str, Callable[[Order], Built]] = {
    "shapes": _shapes,
    "shapes-shortcut": _shapes_shortcut,
    "shapes-robust": _shapes_robust,
}
# What the training of a network kept on its way: its weights after so many pictures, and the files.
CHECKPOINTS: Mapping[str, Mapping[str, str]] = {
    "shapes": {
        f"visits-{visits}": f"visits-{visits:06}.safetensors" for visits in (704, 2176, 7168, 21632)
    }
}


def _drawn(order: Order, weights: Path, accuracies: Callable[[], list[Accuracy]]) -> Built:
    """A network for drawn shapes, with `weights` unless others are ordered."""
    from convlens.workers.builders.weights import load_into, seeded
    from convlens.workers.shapes import network

    with seeded():
        body = network.build()
    if order.weights != RANDOM:
        kept = CHECKPOINTS.get(order.name, {}).get(order.weights or "")
        load_into(body, order.file or (network.CHECKPOINTS / kept if kept else weights))
    return Built(
        body,
        network_pb2.InputGeometry(
            height=network.INPUT_SIZE,
            width=network.INPUT_SIZE,
            channels=len(network.MEAN),
            resize=network.INPUT_SIZE,
            interpolation=image_pb2.INTERPOLATION_BILINEAR,
            mean=network.MEAN,
            std=network.STD,
        ),
        network.LABELS,
        [] if order.weights else accuracies(),
        [] if order.weights else _method_scores(order.name),
    )


def _method_scores(name: str) -> list[network_pb2.MethodScore]:
    """What `python -m benchmarks truth` found, where it was asked."""
    from convlens.workers.shapes.network import WEIGHTS

    report: dict[str, Any] = json.loads(WEIGHTS.with_name("truth.json").read_text("utf-8"))
    if name not in report:
        return []
    return [
        network_pb2.MethodScore(
            method=method,
            truth=report[name]["truth"],
            pictures=report["pictures"],
            pointing_game=values["pointing"],
            overlap=values["overlap"],
        )
        for method, values in report[name]["methods"].items()
        if "all_redrawn" in values
    ]


def _shapes_accuracies() -> list[Accuracy]:
    """What the training script found on pictures that it never trained on."""
    from convlens.workers.shapes.network import WEIGHTS

    figures = _held_out(WEIGHTS.with_name("training.json"))
    return [Accuracy(dataset=_pictures(figures), top1=figures["top1"])]


def _shortcut_accuracies() -> list[Accuracy]:
    """The same, for each relation of shape and marker: which one it looks at."""
    from convlens.workers.shapes.network import SHORTCUT

    figures = _held_out(SHORTCUT.with_suffix(".json"))
    kinds = {
        "own_marker": "with the marker of the shape's class",
        "other_marker": "with the marker of another class, which counts as the true one",
        "marker_alone": "with a marker and no shape",
        "no_marker": "with no marker",
    }
    return [
        Accuracy(dataset=f"{_pictures(figures)}, {words}", top1=figures[kind])
        for kind, words in kinds.items()
    ]


def _robust_accuracies() -> list[Accuracy]:
    """As they are, and under attack."""
    from convlens.workers.shapes.network import ROBUST

    figures = _held_out(ROBUST.with_suffix(".json"))
    attacked = _pictures(figures | {"pictures": figures["attacked"]})
    return [
        Accuracy(dataset=_pictures(figures), top1=figures["top1"]),
        *(
            Accuracy(
                dataset=f"{attacked}, under PGD ({figures['steps']} steps, epsilon {budget})",
                top1=top1,
            )
            for budget, top1 in figures["top1_under_attack"][ROBUST.stem].items()
        ),
    ]


def _held_out(report: Path) -> dict[str, Any]:
    figures: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))["held_out"]
    return figures


def _pictures(figures: Mapping[str, Any]) -> str:
    return f"{figures['pictures']} drawn pictures, seeds from {figures['first_seed']}"
