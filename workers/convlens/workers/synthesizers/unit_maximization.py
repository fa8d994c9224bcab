"""Unit maximization: the picture that a map, a unit or a direction of a layer answers to most."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from convlens.contract.validation import Violation, invalid
from convlens.v1 import synthesis_methods_pb2 as methods
from convlens.v1 import tensor_pb2
from convlens.workers.methods.maps import MapLayer
from convlens.workers.runner import Outputs, Steps
from convlens.workers.synthesizers.ascent import Wish, ascend
from convlens.workers.synthesizers.growth import Growth
from convlens.workers.synthesizers.task import Task


def unit_maximization(
    task: Task, layer: MapLayer, weights: "Unit | Direction", p: methods.UnitMaximization
) -> Steps[Growth]:
    """Ascends a map's mean, a unit, or the mean along a direction among the maps of a layer.

    What it reached is told as `activation`. Erhan et al. 2009, University of Montreal TR 1341,
    section 2; Olah et al. 2017, doi:10.23915/distill.00007.
    """

    def objective(outputs: Outputs) -> Tensor:
        output = outputs.captured[layer.call]
        return weights.of(output.reshape(len(output), *layer.maps))

    wish = Wish("activation", objective, capture=(layer.call,))
    return (yield from ascend(task, wish, p))


@dataclass(frozen=True, slots=True)
class Unit:
    """A map, or the unit of it at a row and a column."""

    map: int
    position: tuple[int, int] | None

    def of(self, maps: Tensor) -> Tensor:
        """What it answers in maps [n, maps, height, width]: the mean of a map, or the unit."""
        if self.position is None:
            return maps[:, self.map].mean(dim=(-2, -1))
        row, column = self.position
        return maps[:, self.map, row, column]


@dataclass(frozen=True, slots=True, eq=False)
class Direction:
    """A direction among maps: a number for each, of length 1 together."""

    weights: Tensor

    def of(self, maps: Tensor) -> Tensor:
        """How far maps [n, maps, height, width] go along it, in the mean over their places."""
        return maps.mean(dim=(-2, -1)) @ self.weights.to(maps)


def aim(layer: MapLayer, p: methods.UnitMaximization, path: str) -> Unit | Direction:
    """What of a layer is asked for; raises Failure INVALID_REQUEST where it has no such thing.

    `path` names the parameters: "method.unit_maximization".
    """
    if p.WhichOneof("objective") == "direction":
        return _direction(layer, p.direction, f"{path}.direction")
    unit, (count, height, width) = p.unit, layer.maps
    broken: list[Violation] = []

    def limit(field: str, value: int, end: int, what: str) -> None:
        if value >= end:
            words = f"is {value}; must be below {end}, the {what} of {layer.name!r}"
            broken.append(Violation(field=f"{path}.unit.{field}", description=words))

    limit("map", unit.map, count, "number of maps")
    limit("position.row", unit.position.row, height, "height of the maps")
    limit("position.column", unit.position.column, width, "width of the maps")
    if broken:
        raise invalid(broken)
    place = unit.position
    return Unit(unit.map, (place.row, place.column) if unit.HasField("position") else None)


def _direction(layer: MapLayer, tensor: tensor_pb2.Tensor, path: str) -> Direction:
    count, *_ = layer.maps
    words = ""
    if tensor.dtype != tensor_pb2.DATA_TYPE_FLOAT32:
        words = "has another dtype; must be float32"
    elif list(tensor.shape) != [count]:
        words = f"has the shape {list(tensor.shape)}; must be [{count}], the maps of {layer.name!r}"
    elif len(tensor.data) != 4 * count:
        words = f"has {len(tensor.data)} bytes; must have {4 * count}, 4 for each number"
    if words:
        raise invalid([Violation(field=path, description=words)])
    numbers = np.frombuffer(tensor.data, "<f4").astype(np.float64)
    length = math.sqrt(float(np.square(numbers).sum()))
    if not 0 < length < math.inf:
        words = "has NaN or infinite numbers, or only zeros; must be finite, and one not zero"
        raise invalid([Violation(field=path, description=words)])
    return Direction(torch.from_numpy(numbers / length))
