"""Reduces the activations of whole layers to a row of fixed size for each picture."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from convlens.client._client import Client
from convlens.client._errors import ConvLensError, InvalidRequest
from convlens.client._features import LayerSelection
from convlens.client._layers import layer_named
from convlens.client._results import Network
from convlens.client.studies._walk import Ask, Gathered, Progress, Row, asking_codes

# Kinds of layers that rectify: modules of torch, and functions that a network's code calls.
RECTIFIERS = frozenset(
    {
        *("relu", "relu6", "leakyrelu", "prelu", "rrelu", "elu", "selu", "celu"),
        *("gelu", "silu", "mish", "softplus", "hardswish"),
    }
)
CONVOLUTIONS = frozenset({"conv2d", "linear"})
# Histograms are taken before the largest activation is known, so their bins grow with the value:
# 16 for each power of ten. What is exactly 0 is counted by itself, after the bins.
PER_DECADE, LOWEST, HIGHEST = 16, -6, 6
_POSITIVE = np.logspace(LOWEST, HIGHEST, PER_DECADE * (HIGHEST - LOWEST) + 1)
EDGES = np.concatenate([[-np.inf], -_POSITIVE[::-1], [0.0], _POSITIVE, [np.inf]])
BINS = len(EDGES) - 1
# Bytes of maps in one answer, and of those that are waited for.
ANSWER_BYTES, WAITING_BYTES = 48 * 2**20, 128 * 2**20
# Rows that are in memory at a time.
BLOCK = 256


@dataclass(frozen=True, slots=True, eq=False)
class LayerHealth:
    """How the units of a layer answered to all pictures; a unit of a layer of maps is a map.

    Arrays are [units]: `maximum` is the largest activation anywhere, `mean` that over all places
    and pictures, `places_on` the share of places above 0, `pictures_on` the share of pictures with
    such a place. `dead` units were never above 0, `always_on` ones everywhere. `density` is the
    share of activations that are not 0, `densities` [pictures] that of each picture.
    `histogram` [bins] counts what is not 0 between the `EDGES`, `zeros` what is.
    """

    layer: str
    maximum: NDArray[np.float64]
    mean: NDArray[np.float64]
    places_on: NDArray[np.float64]
    pictures_on: NDArray[np.float64]
    dead: tuple[int, ...]
    always_on: tuple[int, ...]
    broken: tuple[int, ...]
    density: float
    densities: NDArray[np.float64]
    histogram: NDArray[np.int64]
    zeros: int

    @property
    def units(self) -> int:
        """How many there are."""
        return len(self.maximum)


def chosen_layers(served: Network, names: Sequence[str] | None) -> list[str]:
    """The layers of these names; of none, those that rectify, else convolutions and linear ones.

    Raises NotFound where there is no such layer, InvalidRequest where one cannot be read or has
    neither maps nor a vector, or none is named.
    """
    fit = [
        layer
        for layer in served.anatomy.layers
        if layer.supports_features and len(layer.output_shape) in (1, 3)
    ]
    if names is None:
        for kinds in (RECTIFIERS, CONVOLUTIONS):
            found = [each.name for each in fit if each.kind.lower().replace("_", "") in kinds]
            if found:
                return found
        words = f"{served.name} has no layer that rectifies, and no convolution; name layers."
        raise InvalidRequest(words)
    if not names:
        raise InvalidRequest("No layer is named; leave them out for those that rectify.")
    readable = {layer.name for layer in fit}
    for name in names:
        if layer_named(served, name).name not in readable:
            words = f"{name} has neither maps nor a vector that can be read"
            raise InvalidRequest(f"{words}; choose a layer that has.")
    return list(dict.fromkeys(names))


def asking_reduced(
    client: Client, served: Network, layers: Sequence[str], progress: Progress
) -> Ask:
    """Asks for whole layers; a row has, of all layers one after the other, what `reduced` gives.

    Layers whose maps do not fit into one answer are asked for in several, side by side.
    """

    def ask(paths: Sequence[Path]) -> Iterator[Row | ConvLensError]:
        asks: list[Ask] = []
        for group, size in _groups(served, layers):
            wanted = [LayerSelection(layer, "none", "float32") for layer in group]
            waiting = max(2, min(64, WAITING_BYTES // size))
            asks.append(asking_codes(client, served, wanted, progress, in_flight=waiting))
        for answers in zip(*(each(paths) for each in asks), strict=True):
            whole: dict[str, NDArray[np.float32]] = {}
            failed = [answer for answer in answers if isinstance(answer, ConvLensError)]
            if failed:
                yield failed[0]
                continue
            for answer in answers:
                assert not isinstance(answer, ConvLensError)
                whole.update(answer)
            yield reduced([whole[layer] for layer in layers])

    return ask


def reduced(layers: Sequence[NDArray[np.float32]]) -> Row:
    """What is kept of the maps [units, height, width] or vectors [units] of layers.

    "maximum", "positive" (the share of places above 0) and "mean" are [all units], "histogram"
    [layers, BINS + 1] with the count of zeros at its end.
    """
    flat = [layer.reshape(len(layer), -1) for layer in layers]
    with np.errstate(invalid="ignore", over="ignore"):
        mean = np.concatenate([layer.mean(1, np.float64) for layer in flat]).astype(np.float32)
    return {
        "maximum": np.concatenate([layer.max(1) for layer in flat]),
        "positive": np.concatenate([(layer > 0).mean(1, np.float32) for layer in flat]),
        "mean": mean,
        "histogram": np.stack([_counted(layer.ravel()) for layer in flat]),
    }


def layers_of(rows: Gathered, layers: Sequence[str], served: Network) -> list[LayerHealth]:
    """The rows of all pictures taken together; memory is of one block of them."""
    shapes = {layer.name: layer.output_shape for layer in served.anatomy.layers}
    ends = np.cumsum([shapes[name][0] for name in layers])
    maximum, shown, mean = np.full(ends[-1], -np.inf), np.zeros(ends[-1]), np.zeros(ends[-1])
    places, least = np.zeros(ends[-1]), np.ones(ends[-1])
    for block in rows.blocks("maximum", BLOCK):
        maximum = np.maximum(maximum, block.max(0))
        shown += (block > 0).sum(0)
    for block in rows.blocks("mean", BLOCK):
        mean += block.sum(0)
    for block in rows.blocks("positive", BLOCK):
        places += block.sum(0)
        least = np.minimum(least, block.min(0))
    counts = np.zeros((len(layers), BINS + 1), np.int64)
    densities: list[NDArray[np.float64]] = []
    for block in rows.blocks("histogram", BLOCK):
        counts += block.sum(0, np.int64)
        densities.append(1 - block[:, :, -1] / block.sum(2))
    each, number = np.concatenate(densities), len(rows.pictures)
    found: list[LayerHealth] = []
    for index, (name, end) in enumerate(zip(layers, ends, strict=True)):
        own = slice(end - shapes[name][0], end)
        found.append(
            LayerHealth(
                name,
                maximum[own],
                mean[own] / number,
                places[own] / number,
                shown[own] / number,
                tuple(map(int, np.flatnonzero(maximum[own] <= 0))),
                tuple(map(int, np.flatnonzero(least[own] == 1))),
                tuple(map(int, np.flatnonzero(~np.isfinite(maximum[own] + mean[own])))),
                float(1 - counts[index, -1] / counts[index].sum()),
                each[:, index],
                counts[index, :-1],
                int(counts[index, -1]),
            )
        )
    return found


def _groups(served: Network, layers: Sequence[str]) -> list[tuple[list[str], int]]:
    """Layers whose maps go into one answer, with their bytes."""
    shapes = {layer.name: layer.output_shape for layer in served.anatomy.layers}
    groups: list[tuple[list[str], int]] = []
    for name in layers:
        size = 4 * prod(shapes[name])
        if groups and groups[-1][1] + size <= ANSWER_BYTES:
            groups[-1] = ([*groups[-1][0], name], groups[-1][1] + size)
        else:
            groups.append(([name], size))
    return groups


def _counted(values: NDArray[np.float32]) -> NDArray[np.uint32]:
    there = values[values != 0]
    # As np.histogram does, without its sorting; what is no number is in the last bin.
    bins = np.minimum(np.searchsorted(EDGES, there, "right"), BINS) - 1
    counts = np.bincount(bins, minlength=BINS)
    return np.append(counts, len(values) - len(there)).astype(np.uint32)
