"""The classification networks of the installed torchvision, and the weights that it offers."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, cast, final

from convlens.v1 import image_pb2, network_pb2
from convlens.workers.builders.builder import (
    RANDOM,
    Builder,
    BuildError,
    Built,
    Order,
    is_file_name,
)
from convlens.workers.mistakes import nearest

DEFAULT = "DEFAULT"
DATASET = "ImageNet-1K validation"
INTERPOLATIONS = {
    "bilinear": image_pb2.INTERPOLATION_BILINEAR,
    "bicubic": image_pb2.INTERPOLATION_BICUBIC,
    "nearest": image_pb2.INTERPOLATION_NEAREST,
}
# Heads for training alone. torchvision drops them, too, where its weights are asked for.
AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")
# GoogLeNet and Inception v3 were trained elsewhere, on pictures normalised otherwise: they turn
# torchvision's normalisation into theirs, as they do where torchvision loads its weights.
PORTED: Mapping[str, object] = {
    "transform_input": True,
    "aux_logits": False,
    "init_weights": False,
}
# Names as Python wrote them before modules could have no dots in their names.
OLD_DENSE = re.compile(
    r"(.*denselayer\d+\.(?:norm|relu|conv))\.([12]\."
    r"(?:weight|bias|running_mean|running_var|num_batches_tracked))"
)


class Weights(Protocol):
    """A member of one of torchvision's enums of weights, as far as it is used here."""

    @property
    def name(self) -> str: ...
    @property
    def url(self) -> str: ...
    @property
    def meta(self) -> dict[str, Any]: ...
    @property
    def transforms(self) -> Callable[[], Any]: ...


@final
class Torchvision(Builder):
    """`torchvision:NAME`."""

    def check_name(self, name: str) -> None:
        """Every classification network."""
        known = names()
        if name not in known:
            more = "; convlens networks --available lists them" if len(known) > 1 else ""
            guess = nearest(name, known, all_of=f"{known[0]} … {known[-1]}{more}")
            raise ValueError(f"torchvision has no classification network {name}; {guess}")

    def check_weights(self, name: str, weights: str | None) -> None:
        """Its own by their names, or DEFAULT for the best of them."""
        if weights == RANDOM or (weights and is_file_name(weights)):
            return
        usable = [entry.name for entry in weights_of(name) if entry.meta["categories"]]
        if weights not in (*usable, DEFAULT):
            said = "must be given" if weights is None else f"is {weights!r}"
            raise ValueError(
                f"{said}; for torchvision:{name} there are: {', '.join(usable)}, {DEFAULT}; "
                "or a file (.safetensors, .pth, .pt), or random to measure speed alone"
            )

    def fetch(self, name: str, weights: str) -> None:
        """To where torchvision itself keeps them."""
        _file(name, weights)

    def build(self, order: Order) -> Built:
        """The network as torchvision builds it for its weights, but for the loading.

        torchvision would unpickle its files; here they are read as weights alone.
        """
        from convlens.workers.builders.weights import load_into

        named = order.weights if order.weights != RANDOM and not order.file else None
        facts = _chosen(order.name, named or DEFAULT)
        body = _body(order, facts)
        file = _file(order.name, named) if named else order.file
        if file:
            load_into(body, file, _renamed)
        return Built(
            body,
            geometry_of(facts),
            cast("Sequence[str]", facts.meta["categories"]),
            [accuracy_of(facts)] if named else [],
        )


def names() -> list[str]:
    """The classification networks, sorted."""
    from torchvision import models  # pyright: ignore[reportMissingTypeStubs]

    return models.list_models(module=models)


def weights_of(name: str) -> list[Weights]:
    """The pretrained weights of a network, in torchvision's order."""
    from torchvision import models  # pyright: ignore[reportMissingTypeStubs]

    return cast("list[Weights]", list(models.get_model_weights(name)))


def default_of(name: str) -> Weights:
    """The weights that DEFAULT stands for."""
    from torchvision import models  # pyright: ignore[reportMissingTypeStubs]

    return cast(Weights, models.get_model_weights(name)[DEFAULT])


def geometry_of(weights: Weights) -> network_pb2.InputGeometry:
    """How pictures were prepared for the weights."""
    preset = weights.transforms()
    [size], [resize] = preset.crop_size, preset.resize_size
    return network_pb2.InputGeometry(
        height=size,
        width=size,
        channels=len(preset.mean),
        resize=resize,
        interpolation=INTERPOLATIONS[preset.interpolation.value],
        mean=preset.mean,
        std=preset.std,
    )


def accuracy_of(weights: Weights) -> network_pb2.Accuracy:
    """What torchvision measured; without figures where it measured nothing."""
    figures = weights.meta["_metrics"]["ImageNet-1K"]
    top1, top5 = figures["acc@1"], figures["acc@5"]
    return network_pb2.Accuracy(
        dataset=DATASET,
        top1=None if math.isnan(top1) else round(top1 / 100, 5),
        top5=None if math.isnan(top5) else round(top5 / 100, 5),
    )


def _chosen(name: str, weights: str) -> Weights:
    if weights == DEFAULT:
        return default_of(name)
    return next(entry for entry in weights_of(name) if entry.name == weights)


def _file(name: str, weights: str) -> Path:
    from convlens.workers.builders.downloads import fetched

    chosen = _chosen(name, weights)
    return fetched(chosen.url, f"torchvision's {chosen.name} of {name}")


def _body(order: Order, facts: Weights) -> Any:
    from torchvision import models  # pyright: ignore[reportMissingTypeStubs]

    from convlens.workers.builders.weights import seeded

    arguments = {**_defaults(order, facts), **order.arguments}
    try:
        with seeded():
            return models.get_model(order.name, weights=None, **arguments)
    except Exception as error:
        given = ", ".join(f"{key}: {value}" for key, value in order.arguments.items())
        raise BuildError(
            "arguments" if given else "input",
            f"torchvision:{order.name} cannot be built{' with ' if given else ''}{given}: {error}",
        ) from None


def _defaults(order: Order, facts: Weights) -> dict[str, object]:
    """The arguments that torchvision would derive from the weights, or from the input's size."""
    if order.name in ("googlenet", "inception_v3"):
        return dict(PORTED)
    if order.name.startswith("vit_"):
        return {"image_size": order.size[0] if order.size else facts.meta["min_size"][0]}
    if order.name.startswith("maxvit"):
        return {"input_size": order.size or facts.meta["min_size"]}
    return {}


def _renamed(name: str) -> str | None:
    if name.startswith(AUXILIARY):
        return None
    old = OLD_DENSE.fullmatch(name)
    return old[1] + old[2] if old else name
