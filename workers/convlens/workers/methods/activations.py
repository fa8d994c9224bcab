"""Activations: the maps of a layer that answer most strongly to the picture."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from convlens.contract.rules import default_of
from convlens.contract.validation import Violation, invalid
from convlens.v1 import explanation_methods_pb2 as methods
from convlens.workers.runner import Pass, Steps


@dataclass(frozen=True)
class ActivationMap:
    """A map of a layer: its number, its strength, and its values [height, width]."""

    map: int
    strength: float
    values: Tensor


@dataclass(frozen=True)
class ActivationsResult:
    """The strongest maps, the strongest first."""

    maps: tuple[ActivationMap, ...]


def activations(
    x: Tensor, p: methods.Activations, call: int, axes: tuple[int, int] | None
) -> Steps[ActivationsResult]:
    """The strongest maps of a layer for x [channels, height, width]; of equal ones, the first.

    `call` is the layer's in the network's trace, and `axes` are the vertical and the horizontal one
    of its output, from the last; None where that is a vector, of which each number is a map.
    Yosinski et al. 2015, arXiv:1506.06579, section 2.
    """
    answer = yield Pass(x[None], capture=(call,), stops=True)
    maps = as_maps(answer.captured[call][0], axes)
    strengths = strength(maps, p.strength)
    order = strengths.argsort(descending=True, stable=True)[: p.count]
    return ActivationsResult(
        tuple(ActivationMap(int(n), float(strengths[n]), maps[n]) for n in order)
    )


def as_maps(values: Tensor, axes: tuple[int, int] | None) -> Tensor:
    """A layer's output for one picture as [maps, height, width]."""
    if axes is None:
        return values.view(-1, 1, 1)
    return values.movedim(axes, (-2, -1)).flatten(0, -3)


def strength(maps: Tensor, measure: int) -> Tensor:
    """How strong each of the maps [maps, height, width] is, by its largest value or its mean."""
    if measure == methods.MAP_STRENGTH_MAX:
        return maps.amax(dim=(-2, -1))
    if measure == methods.MAP_STRENGTH_MEAN:
        return maps.mean(dim=(-2, -1))
    raise ValueError(f"no measure of strength has the number {measure}")


def map_count(shape: Sequence[int], axes: tuple[int, int] | None) -> int | None:
    """How many maps an output of this shape has; None where it is neither maps nor a vector."""
    if axes is None:
        return shape[0] if len(shape) == 1 else None
    count = 1
    for axis, side in enumerate(shape, -len(shape)):
        count *= 1 if axis in axes else side
    return count


def check_count(p: methods.Activations | methods.Filters, available: int, path: str) -> None:
    """Raises Failure INVALID_REQUEST where more is asked for than a layer has.

    The default is for layers of any size. `path` names the parameters: "methods[0].activations".
    """
    if p.count > available and p.count != default_of(p.DESCRIPTOR.fields_by_name["count"]):
        words = f"is {p.count}; must be at most {available}, which {p.layer!r} has"
        raise invalid([Violation(field=f"{path}.count", description=words)])
