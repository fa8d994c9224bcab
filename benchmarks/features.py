"""What codes of one layer cost: ours, the bare prefix, torchvision's extractor, hooks, a pass."""

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models.feature_extraction import (  # pyright: ignore[reportMissingTypeStubs]
    create_feature_extractor,
)

from benchmarks.common import Side, show, turns
from convlens.v1 import feature_pb2
from convlens.workers.catalog import load_network
from convlens.workers.config import NetworkEntry
from convlens.workers.features import extract
from convlens.workers.network import ServedNetwork
from convlens.workers.selection import Layers

ROUNDS, IMAGES = 40, 8
# Each layer, and the modules that a network which ends there would have.
PREFIXES = {
    "conv1": ("conv1",),
    "layer2": ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2"),
    "avgpool": (
        *("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4", "avgpool"),
    ),
}
Way = Callable[[Tensor], object]


def run(json_file: Path | None, rounds: int) -> None:
    """Alternates all ways over the layers of ResNet-18; the limit is 10 % over the bare prefix.

    Their order changes: what follows a full pass finds the caches full of that one's weights.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    entry = NetworkEntry(name="resnet18", builder="torchvision:resnet18", weights="random")
    network = load_network(entry, device)
    geometry = network.facts.input
    pixels = torch.rand(IMAGES, 3, geometry.height, geometry.width)
    ways: dict[str, Way] = {"full forward": lambda x: network.logits(network.place(x)).cpu()}
    for layer in PREFIXES:
        ways |= {f"{layer}, {name}": way for name, way in ways_to(network, layer).items()}
    sides = {name: Side(name, []) for name in ways}
    shuffled = random.Random(0)
    with torch.inference_mode():
        for turn in turns(rounds + 2, "codes"):
            for name in shuffled.sample(list(ways), len(ways)):
                started = time.perf_counter()
                ways[name](pixels)
                if turn > 1:
                    sides[name].values.append((time.perf_counter() - started) * 1000 / IMAGES)
    report = "\n".join(_said(network, sides, layer, pixels) for layer in PREFIXES)
    title = f"Codes of ResNet-18, mean of each map, {IMAGES} images a pass on {device}"
    show(title, "ms an image", list(sides.values()), report, json_file)


def ways_to(network: ServedNetwork, layer: str) -> dict[str, Way]:
    """The ways to the mean of each map of one layer, as numbers in the processor's memory."""
    selection = feature_pb2.LayerSelection(layer=layer, pooling=feature_pb2.POOLING_AVG)
    selected = [Layers(network).select(selection)]
    front, body = _split(network)
    prefix = nn.Sequential(*(body.get_submodule(name) for name in PREFIXES[layer])).eval()
    extractor: Any = create_feature_extractor(body, [layer]).eval()

    def hooked(x: Tensor) -> Tensor:
        found: list[Tensor] = []

        def keep(_module: nn.Module, _inputs: object, output: Tensor) -> None:
            found.append(output)

        handle = body.get_submodule(layer).register_forward_hook(keep)
        try:
            body(front(x))
        finally:
            handle.remove()
        return pooled(found[0])

    return {
        "ConvLens": lambda x: list(extract(network, selected, x)),
        "bare prefix": lambda x: pooled(prefix(front(x))),
        "create_feature_extractor": lambda x: pooled(extractor(front(x))[layer]),
        "hook": hooked,
    }


def _split(network: ServedNetwork) -> tuple[Way, Any]:
    """What stands before the network itself, and that."""
    body: Any = network.module.body
    mean = torch.tensor(list(network.facts.input.mean)).view(3, 1, 1)
    std = torch.tensor(list(network.facts.input.std)).view(3, 1, 1)
    place, mean, std = network.place, network.place(mean[None]), network.place(std[None])
    return lambda x: (place(x) - mean) / std, body


def pooled(maps: Tensor) -> Tensor:
    """The mean of each map."""
    return maps.mean((-2, -1)).cpu()


def _said(network: ServedNetwork, sides: dict[str, Side], layer: str, pixels: Tensor) -> str:
    ours, bare = sides[f"{layer}, ConvLens"].median, sides[f"{layer}, bare prefix"].median
    whole = sides["full forward"].median
    front, body = _split(network)
    prefix = nn.Sequential(*(body.get_submodule(name) for name in PREFIXES[layer]))
    share = _operations(prefix, front(pixels)) / _operations(body, front(pixels))
    return (
        f"{layer}: {ours / bare:.3f} times the bare prefix (limit 1.1), {ours / whole:.1%} of the "
        f"full forward with {share:.1%} of its multiply-adds"
    )


def _operations(module: nn.Module, x: Any) -> int:
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        module(x)
    return counter.get_total_flops()
