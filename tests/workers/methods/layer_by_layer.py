"""The way down through a plain chain of layers as the papers write it, in loops: no autograd."""

from collections.abc import Iterator
from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# A channel, a row and a column.
Place = tuple[int, ...]


class Ascent:
    """What each layer of a chain took and gave on the way up, for one picture [3, h, w].

    Of a pooling it keeps the switches: for each of its windows the place of the maximum.
    """

    def __init__(self, layers: nn.Sequential, x: Tensor) -> None:
        self.layers = list(layers)
        self.taken: list[Tensor] = []
        self.given: list[Tensor] = []
        self.switches: dict[int, dict[Place, Place]] = {}
        for number, layer in enumerate(self.layers):
            self.taken.append(x)
            if isinstance(layer, nn.MaxPool2d):
                self.switches[number] = switches(layer, x)
            x = layer(x[None])[0]
            self.given.append(x)

    def down(self, start: int, seed: Tensor, *, guided: bool = False, largest: bool = False) -> Any:
        """From what is kept of the output of layer `start` down to the pixels.

        `guided` rectifiers hold back what they held back on the way up, too. An input that is the
        maximum of several windows gets the sum of what they hold, or the `largest`.
        """
        for number in range(start, -1, -1):
            seed = self._through(number, seed, guided, largest)
        return seed

    def _through(self, number: int, above: Tensor, guided: bool, largest: bool) -> Tensor:
        layer, x = self.layers[number], self.taken[number]
        if isinstance(layer, nn.ReLU):
            positive = torch.where(above > 0, above, 0.0)
            return torch.where(x > 0, positive, 0.0) if guided else positive
        if isinstance(layer, nn.MaxPool2d):
            return unpooled(self.switches[number], above, x, largest)
        if isinstance(layer, nn.Conv2d):
            return filtered(layer, above, x)
        if isinstance(layer, nn.AvgPool2d):
            return spread(layer, above, x)
        if isinstance(layer, nn.BatchNorm2d):
            assert layer.running_var is not None
            factor = layer.weight / (layer.running_var + layer.eps).sqrt()
            return above * factor[:, None, None]
        if isinstance(layer, nn.Linear):
            return layer.weight.T @ above
        assert isinstance(layer, nn.Flatten)
        return above.reshape(x.shape)


def switches(layer: Any, x: Tensor) -> dict[Place, Place]:
    """For each window of a pooling the place of its maximum."""
    found: dict[Place, Place] = {}
    for window in product(*map(range, layer(x[None])[0].shape)):
        places = list(inside(layer, window, x))
        found[window] = max(places, key=lambda place: float(x[place]))
    return found


def inside(layer: Any, window: Place, x: Tensor) -> Iterator[Place]:
    """The places of x in a window, those in the padding left out."""
    channel, row, column = window
    dilation = getattr(layer, "dilation", 1)
    for i, j in product(range(layer.kernel_size), repeat=2):
        y = row * layer.stride - layer.padding + i * dilation
        z = column * layer.stride - layer.padding + j * dilation
        if 0 <= y < x.shape[1] and 0 <= z < x.shape[2]:
            yield channel, y, z


def unpooled(switches: dict[Place, Place], above: Tensor, x: Tensor, largest: bool) -> Tensor:
    below = torch.zeros_like(x)
    held: dict[Place, list[Tensor]] = {}
    for window, place in switches.items():
        held.setdefault(place, []).append(above[window])
    for place, values in held.items():
        below[place] = max(values) if largest else sum(values)
    return below


def filtered(layer: nn.Conv2d, above: Tensor, x: Tensor) -> Tensor:
    """Through the transposed filters, to the size of x: strides leave some of its border out."""
    given: Any = (layer.stride, layer.padding, (0, 0), layer.groups, layer.dilation)
    size = F.conv_transpose2d(above[None], layer.weight, None, *given).shape[-2:]
    rest = (x.shape[1] - size[0], x.shape[2] - size[1])
    given = (layer.stride, layer.padding, rest, layer.groups, layer.dilation)
    return F.conv_transpose2d(above[None], layer.weight, None, *given)[0]


def spread(layer: Any, above: Tensor, x: Tensor) -> Tensor:
    below = torch.zeros_like(x)
    for window in product(*map(range, above.shape)):
        for place in inside(layer, window, x):
            below[place] += above[window] / layer.kernel_size**2
    return below
