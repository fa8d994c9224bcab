"""Deconvnet: what in the picture made a map of a layer answer, projected down to the pixels."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from convlens.contract import ErrorReason, Failure
from convlens.contract.validation import Violation, invalid
from convlens.v1 import explanation_methods_pb2 as methods
from convlens.workers.methods.maps import Box, MapLayer
from convlens.workers.rectifiers import Rule
from convlens.workers.runner import Outputs, Pass, Steps, side_by_side

RULES = {methods.UNPOOLING_SUM: Rule.DECONVNET, methods.UNPOOLING_MAX: Rule.DECONVNET_MAX}


@dataclass(frozen=True)
class Patch:
    """The projection of a map, and the picture, where its unit looks [channels, h, w].

    `position` is the unit's row and column, None for the whole map; `activation` that of the unit,
    or the largest of the map.
    """

    map: int
    position: tuple[int, int] | None
    activation: float
    field: Box
    reconstruction: Tensor
    input_patch: Tensor


@dataclass(frozen=True)
class DeconvnetResult:
    """The patches, the strongest first, and the whole projection [channels, height, width] of it.

    `is_partial` says that time was over before all of them were there.
    """

    patches: tuple[Patch, ...]
    map: Tensor
    is_partial: bool = False


@dataclass(frozen=True)
class Seed:
    """What is kept of a layer: a map, or one unit of it."""

    map: int
    position: tuple[int, int] | None
    activation: float

    def of(self, maps: Tensor) -> Tensor:
        """The activations [n, maps, height, width] with all else zero."""
        row, column = (slice(None), slice(None)) if self.position is None else self.position
        mask = torch.zeros_like(maps)
        mask[:, self.map, row, column] = 1
        return maps * mask


def check(layer: MapLayer, p: methods.Deconvnet, path: str) -> None:
    """Raises Failure INVALID_REQUEST where the layer has no such map or unit.

    `path` names the parameters: "methods[0].deconvnet".
    """
    broken = layer.missing(p.map_index, p.position.row, p.position.column, path)
    if p.HasField("position") and not p.HasField("map_index"):
        words = "must be set with position: the map whose unit it is"
        broken.append(Violation(field=f"{path}.map_index", description=words))
    if broken:
        raise invalid(broken)


def deconvnet(x: Tensor, layer: MapLayer, p: methods.Deconvnet) -> Steps[DeconvnetResult]:
    """Projects a map of a layer, a unit of it, or the strongest maps down to the pixels of x.

    A projection starts from rectified activations with all else zero and goes down through
    transposed filters, rectifiers, and the switches of x [channels, height, width]. Maps that are
    not active have none; Failure LAYER_NOT_APPLICABLE where that is so of all that were asked for.
    Zeiler & Fergus 2013, arXiv:1311.2901, section 2.1.
    """
    answer = yield Pass(x[None], capture=(layer.call,), stops=True)
    seeds = _seeds(_activations(answer.captured[layer.call], layer)[0], p)
    active = [seed for seed in seeds if seed.activation > 0]
    if not active:
        raise layer.unfit(_silence(p))
    return _result((yield from side_by_side([_projection(x, layer, s, p) for s in active])))


def _activations(output: Tensor, layer: MapLayer) -> Tensor:
    """The rectified output of the layer [n, maps, height, width]."""
    return output.view(len(output), *layer.maps).relu()


def _seeds(maps: Tensor, p: methods.Deconvnet) -> list[Seed]:
    """What to start from in maps [maps, height, width], the strongest first."""
    if p.HasField("position"):
        position = p.position.row, p.position.column
        return [Seed(p.map_index, position, float(maps[p.map_index][position]))]
    strengths, units = maps.flatten(1).max(dim=1)
    order = strengths.argsort(descending=True, stable=True)[: p.strongest]
    numbers = [p.map_index] if p.HasField("map_index") else [int(number) for number in order]
    places = [divmod(int(units[number]), maps.shape[-1]) for number in numbers]
    whole = p.keep == methods.DECONVNET_KEEP_WHOLE_MAP
    return [
        Seed(number, None if whole else place, float(strengths[number]))
        for number, place in zip(numbers, places, strict=True)
    ]


def _projection(
    x: Tensor, layer: MapLayer, seed: Seed, p: methods.Deconvnet
) -> Steps[tuple[Patch, Tensor]]:
    """Down to the pixels: the gradient, under the rule, of what the seed weighs by itself."""

    def objective(outputs: Outputs) -> Tensor:
        output = outputs.captured[layer.call]
        weights = seed.of(_activations(output.detach(), layer))
        return (weights.view_as(output) * output).flatten(1).sum(dim=1)

    rule = RULES[p.unpooling]
    answer = yield Pass(x[None], objective, capture=(layer.call,), rule=rule, stops=True)
    whole = answer.slope[0].to(x.device)
    field = layer.field(seed.position, (x.shape[1], x.shape[2]))
    patch = Patch(seed.map, seed.position, seed.activation, field, field.cut(whole), field.cut(x))
    return patch, whole


def _result(found: Sequence[tuple[Patch, Tensor] | Failure]) -> DeconvnetResult:
    """What came of the seeds; raises what went wrong, unless it is that time was over."""
    done = [each for each in found if not isinstance(each, Failure)]
    failures = [each for each in found if isinstance(each, Failure)]
    late = ErrorReason.ERROR_REASON_DEADLINE_EXCEEDED
    for failure in failures:
        if failure.reason != late or not done:
            raise failure
    return DeconvnetResult(tuple(patch for patch, _ in done), done[0][1], bool(failures))


def _silence(p: methods.Deconvnet) -> str:
    """Why there is nothing to project, as the end of a sentence."""
    if not p.HasField("map_index"):
        return "none of its maps is active in this picture; choose another layer"
    if not p.HasField("position"):
        return f"map {p.map_index} is nowhere active in this picture; choose another map"
    unit = f"unit ({p.position.row}, {p.position.column}) of map {p.map_index}"
    return f"{unit} is not active in this picture; choose another unit"
