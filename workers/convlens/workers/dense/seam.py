"""Where a network ends to look at places: what comes before works on pictures of any size."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from convlens.contract import ErrorReason, Failure
from convlens.workers.anatomy import INPUT, Call, Trace, Value
from convlens.workers.anatomy.arguments import argument
from convlens.workers.anatomy.fields import PIXELS, Map, maps
from convlens.workers.anatomy.functions import ADAPTIVE_POOLS, CONVOLUTIONS, POINTWISE
from convlens.workers.anatomy.names import SETITEM
from convlens.workers.anatomy.recorder import leaves
from convlens.workers.anatomy.support import heard

WORKS = (
    "a dense map needs convolutions and poolings up to the last maps, and behind them fully "
    "connected layers or the mean over each map, as AlexNet, VGG, GoogLeNet, ResNet, DenseNet and "
    "ConvNeXt have them"
)
# Their parameters are the same for every place, whatever their shapes.
_WEIGHTED = CONVOLUTIONS | {"linear", "batch_norm", "layer_norm", "prelu"}


@dataclass(frozen=True, slots=True)
class Seam:
    """The last maps of a network, which a picture of any size has, and what is made of them.

    `maps` is the call that gives them, `shape` what it gives for the network's own input: channels,
    height, width. `step` is what lies between two units in pixels, vertically and horizontally.
    `averages` are those calls behind them that take the mean over each whole map, and `averaged`
    says that there are no others.
    """

    maps: int
    shape: tuple[int, int, int]
    step: tuple[int, int]
    averages: frozenset[int]
    averaged: bool


@dataclass(frozen=True, slots=True)
class Sides:
    """The calls of a trace on both sides of the seam.

    `places` are the maps of every call; `local` says of each that it does the same at every place
    of a picture of any size.
    """

    places: Sequence[Map | None]
    local: Sequence[bool]

    def map_of(self, value: Value) -> Map | None:
        """The map that a value is on the near side of the seam, None behind it."""
        if value.source is None or not self.is_local(value):
            return None
        return self.places[value.source] if value.source != INPUT else PIXELS

    def is_local(self, value: Value) -> bool:
        """Whether a value comes from pixels by calls that are local."""
        return value.source is not None and (value.source == INPUT or self.local[value.source])


def sides(trace: Trace) -> Sides:
    """Tells the calls apart that are local."""
    local: list[bool] = []
    found = Sides(maps(trace), local)
    for call in trace.calls:
        known = all(found.is_local(value) for value in pictures(call))
        local.append(known and _is_local(call, found.places[call.index]))
    return found


def pictures(call: Call) -> list[Value]:
    """What a call takes that is another for each picture."""
    return [value for value in call.operands if value.axis is not None]


def find_seam(trace: Trace, network: str) -> Seam:
    """Finds the seam of a network by the name `network`.

    Raises Failure LAYER_NOT_APPLICABLE with the layer that stands in the way.
    """
    found = sides(trace)
    ways = heard(trace)
    behind = [call for call in trace.calls if call.index in ways and not found.local[call.index]]
    if not behind:
        raise _unfit(trace, network, None, "its output cannot be followed")
    _check_head(trace, network, found, behind)
    takers = [(call, v) for call in behind for v in pictures(call) if _enters(found, v)]
    sources = {value.source for _, value in takers}
    if len(sources) != 1 or None in sources:
        several = "scores come from more than one layer with maps, or from what cannot be seen"
        raise _unfit(trace, network, behind[0], several)
    value = takers[0][1]
    place = found.map_of(value)
    if place is None or place.fields is None or not _is_plain(trace, value, place):
        raise _unfit(trace, network, behind[0], "what it takes is no [maps, height, width]")
    averages = frozenset(call.index for call, _ in takers if _is_average(call))
    return Seam(
        maps=value.source if value.source is not None else INPUT,
        shape=(value.shape[0], value.shape[1], value.shape[2]),
        step=(place.fields[0].jump, place.fields[1].jump),
        averages=averages,
        averaged=all(call.index in averages for call, _ in takers),
    )


def layer_of(trace: Trace, call: int) -> str:
    """The name of the layer in which a call runs."""
    names = [node.name for node in trace.nodes.values() if node.leaf and call in node.calls]
    return names[0] if names else trace.calls[call].function


def _is_local(call: Call, place: Map | None) -> bool:
    """Whether it makes maps of maps, by what is around each place alone."""
    if place is None or place.fields is None or call.function in ADAPTIVE_POOLS:
        return False
    shape = call.outputs[0].batch_shape
    single = all(shape[axis] == 1 for axis in place.axes)
    return not single and not _differs_by_place(call, place)


def _differs_by_place(call: Call, place: Map) -> bool:
    """Whether it adds or multiplies by numbers of its own for each place."""
    if call.function in _WEIGHTED:
        return False
    shapes = [value.batch_shape for value in call.operands if value.axis is None]
    return any(len(s) >= -axis and s[axis] > 1 for s in shapes for axis in place.axes)


def _check_head(trace: Trace, network: str, found: Sides, behind: Sequence[Call]) -> None:
    """Behind the last maps there are vectors alone, or maps on their way to become one."""
    for call in behind:
        inner = not any(_enters(found, value) for value in pictures(call))
        if _is_flat(call) or call.function in ADAPTIVE_POOLS:
            continue
        if inner and call.function in POINTWISE:
            continue
        if found.places[call.index] is None:
            shape = list(call.outputs[0].shape)
            raise _unfit(trace, network, call, f"it gives {shape}, neither maps nor a vector")
        what = "it looks at the whole picture, or not at every place in the same way"
        if call is not behind[0]:
            what += f", and {layer_of(trace, call.index)} makes maps of what it found"
        raise _unfit(trace, network, behind[0], what)


def _enters(found: Sides, value: Value) -> bool:
    """Whether a value that is taken behind the seam comes from before it."""
    return value.source is None or found.is_local(value)


def _is_flat(call: Call) -> bool:
    return all(sum(size > 1 for size in value.shape) <= 1 for value in call.outputs)


def _is_plain(trace: Trace, value: Value, place: Map) -> bool:
    """Whether a batch of it is [n, maps, height, width], and one call's only output."""
    fits = value.axis == 0 and value.batch_shape[0] == 1 and place.axes == (-2, -1)
    if value.source in (None, INPUT):
        return fits and len(value.batch_shape) == 4
    call = trace.calls[value.source]
    return fits and len(value.shape) == 3 and not call.plural and call.function != SETITEM


def _is_average(call: Call) -> bool:
    """Whether it is the mean over each whole map [n, maps, height, width]."""
    if call.function == "adaptive_avg_pool2d":
        return call.outputs[0].batch_shape[-2:] == (1, 1)
    dims: Any = argument(call, 1, "dim")
    return call.function == "mean" and {axis % 4 for axis in leaves(int, dims)} == {2, 3}


def _unfit(trace: Trace, network: str, call: Call | None, reason: str) -> Failure:
    layer = "output" if call is None else layer_of(trace, call.index)
    detail = f"{reason}; {WORKS}"
    return Failure(
        ErrorReason.ERROR_REASON_LAYER_NOT_APPLICABLE, layer=layer, network=network, detail=detail
    )
