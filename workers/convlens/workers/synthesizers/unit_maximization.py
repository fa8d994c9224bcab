"""Unit maximization: the picture that a map, a unit or a direction of a layer answers to most."""

from dataclasses import dataclass

from torch import Tensor

from convlens.contract.validation import Violation, invalid
from convlens.v1 import synthesis_methods_pb2 as methods
from convlens.v1 import tensor_pb2
from convlens.workers.methods.maps import MapLayer
from convlens.workers.numbers import numbers_in
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
    place = p.unit.position
    if broken := layer.missing(p.unit.map_index, place.row, place.column, f"{path}.unit"):
        raise invalid(broken)
    return Unit(
        p.unit.map_index, (place.row, place.column) if p.unit.HasField("position") else None
    )


def _direction(layer: MapLayer, tensor: tensor_pb2.Tensor, path: str) -> Direction:
    count, *_ = layer.maps
    numbers = numbers_in(tensor, path).double()
    words = ""
    if list(numbers.shape) != [count]:
        shape = list(numbers.shape)
        words = f"has the shape {shape}; must be [{count}], the maps of {layer.name!r}"
    elif not numbers.any():
        words = "has only zeros; one must not be zero"
    if words:
        raise invalid([Violation(field=path, description=words)])
    return Direction(numbers / numbers.square().sum().sqrt())
