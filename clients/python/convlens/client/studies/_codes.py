"""Codes of a layer that are small enough to learn from: maps are pooled to a grid."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convlens.client._client import Client
from convlens.client._errors import ConvLensError, InvalidRequest
from convlens.client._features import LayerSelection
from convlens.client._layers import ALIASES, layer_named
from convlens.client._results import Network
from convlens.client._text import printable
from convlens.client.studies._walk import Ask, Progress, Row, asking_codes

# Numbers that the code of a layer of maps may have: the width of AlexNet's fully connected layers.
MOST_NUMBERS = 4096
# Of whole maps that are under way at a time, in bytes; and how many pictures that are at most.
MOST_BYTES, MOST_PICTURES = 128 * 2**20, 64


def asking_grids(client: Client, served: Network, layers: Sequence[str], progress: Progress) -> Ask:
    """Asks for the codes of layers; a row has a vector of each, of maps what `gridded` says."""
    ask = asking_codes(
        client,
        served,
        [LayerSelection(name) for name in layers],
        progress,
        in_flight=_in_flight(served, layers),
    )

    def pooled(paths: Sequence[Path]) -> Iterator[Row | ConvLensError]:
        for row in ask(paths):
            if isinstance(row, ConvLensError):
                yield row
            else:
                yield {name: gridded(values, name) for name, values in row.items()}

    return pooled


def gridded(values: NDArray[Any], layer: str) -> NDArray[np.float32]:
    """The code as a vector; maps [channels, height, width] are pooled where they are too many.

    Each map becomes the maxima of the cells of the finest grid with which the code has at most
    4,096 numbers; the cells are those of torch's `adaptive_max_pool2d`. Vectors stay whole. Raises
    InvalidRequest for what is neither.
    """
    if values.ndim == 1:
        return values.astype(np.float32, copy=False)
    if values.ndim != 3:
        shape = " x ".join(map(str, values.shape))
        raise InvalidRequest(
            f"The codes of {printable(layer)} are {shape}, neither a vector nor maps; choose a "
            "layer that gives one of them."
        )
    channels, *sides = values.shape
    side = max(1, int((MOST_NUMBERS / channels) ** 0.5))
    for axis, length in enumerate(sides, 1):
        values = _largest(values, axis, min(side, length))
    return np.ascontiguousarray(values, np.float32).ravel()


def _largest(values: NDArray[Any], axis: int, cells: int) -> NDArray[Any]:
    """The maxima of cells along an axis; cells overlap where they do not divide it."""
    length = values.shape[axis]
    if cells == length:
        return values
    edges = [(cell * length // cells, -(-(cell + 1) * length // cells)) for cell in range(cells)]
    return np.stack([values.take(range(first, end), axis).max(axis) for first, end in edges], axis)


def in_order(served: Network, layers: Sequence[str]) -> list[str]:
    """The layers by their depth; raises NotFound or InvalidRequest where they cannot be read."""
    if not layers:
        raise InvalidRequest("No layer is named; 'convlens anatomy' lists them.")
    if twice := sorted({name for name in layers if layers.count(name) > 1}):
        raise InvalidRequest(f"{printable(twice[0])} is named twice; name each layer once.")
    there = {layer.name: layer for layer in served.anatomy.layers}
    for name in layers:
        if name in ALIASES:
            continue
        if not layer_named(served, name, ALIASES).supports_features:
            raise InvalidRequest(f"{name} cannot be read; choose a layer inside or after it.")
    depths: dict[str, float] = {name: depth for depth, name in enumerate(there)}
    weighted = [depths[name] for name, layer in there.items() if layer.parameters]
    # The code is what the last layer with weights takes.
    depths |= {"cnn-code": max(weighted, default=0) - 0.5, "logits": len(there)}
    return sorted(layers, key=depths.__getitem__)


def _in_flight(served: Network, layers: Sequence[str]) -> int:
    """How many pictures may be under way, so that memory does not grow with their maps."""
    shapes = [layer.output_shape for layer in served.anatomy.layers if layer.name in layers]
    size = 4 * sum(int(np.prod(shape)) for shape in shapes)
    return int(np.clip(MOST_BYTES // max(1, size), 2, MOST_PICTURES))
