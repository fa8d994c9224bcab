"""Receptive fields: which pixels can one unit see, along each axis?

A field is known as long as the output of a call is a map of places. Each rule says what becomes of
the places and their fields; where there is no rule, or a unit sees everything, they end.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

from convlens.workers.anatomy.arguments import argument, operand
from convlens.workers.anatomy.functions import (
    ADAPTIVE_POOLS,
    POINTWISE,
    POOLS,
    RESHAPES,
)
from convlens.workers.anatomy.recorder import leaves
from convlens.workers.anatomy.values import INPUT, Call, Trace, Value
from convlens.workers.anatomy.windows import Window, windows


@dataclass(frozen=True, slots=True)
class Extent:
    """The field of a map's first unit from pixel `first` on, and what lies between neighbours."""

    first: int
    size: int
    jump: int

    @property
    def offset(self) -> float:
        """Where its centre lies, from the centre of the first pixel."""
        return self.first + (self.size - 1) / 2

    def through(self, window: Window) -> "Extent":
        """The field of a unit that sees these units through a window."""
        return Extent(
            self.first - window.before * self.jump,
            self.size + (window.extent - 1) * self.jump,
            self.jump * window.stride,
        )

    def joined(self, other: "Extent") -> "Extent":
        """The field of a unit that sees one unit of each of two maps of the same jump."""
        first = min(self.first, other.first)
        end = max(self.first + self.size, other.first + other.size)
        return Extent(first, end - first, self.jump)


@dataclass(frozen=True, slots=True)
class Map:
    """A map of places: its vertical and horizontal axis (from the last, -1), and their fields.

    No fields: a unit sees everything, or it is not known what it sees.
    """

    axes: tuple[int, int]
    fields: tuple[Extent, Extent] | None


PIXELS = Map((-2, -1), (Extent(0, 1, 1), Extent(0, 1, 1)))
Maps = Sequence[Map | None]
Rule = Callable[[Call, Maps], Map | None]


def maps(trace: Trace) -> list[Map | None]:
    """For each call the map that its output is, None where it is no map of places."""
    known = _known(trace)
    found: list[Map | None] = []
    for call in trace.calls:
        rule = RULES.get(call.function)
        taken = [_of(value, found) for value in call.operands if value.axis is not None]
        place = rule(call, taken) if rule and taken else None
        fits = len(call.outputs[0].batch_shape) > 2
        if place is None and call.index in known:
            place = Map((-2, -1), None)
        found.append(place if fits else None)
    return found


def _of(value: Value, found: Maps) -> Map | None:
    if value.source == INPUT:
        return PIXELS if len(value.batch_shape) == 4 else None
    return None if value.source is None else found[value.source]


def _known(trace: Trace) -> set[int]:
    """Calls whose outputs are maps because of what takes them."""
    takers = (call for call in trace.calls if call.function in (*POOLS, *ADAPTIVE_POOLS, *MAPPERS))
    given = (operand(call, 0, "input") for call in takers)
    maps = (value for value in given if len(value.batch_shape) == 4)
    return {value.source for value in maps if value.source is not None}


def _windowed(call: Call, taken: Maps) -> Map | None:
    """Convolution and pooling; a window over the whole map sees everything."""
    found = windows(call)
    fields = taken[0].fields if taken[0] else None
    if found is None or fields is None:
        return Map((-2, -1), None)
    height, width = operand(call, 0, "input").batch_shape[-2:]
    if call.function in ADAPTIVE_POOLS and (found[0].kernel, found[1].kernel) == (height, width):
        return Map((-2, -1), None)
    vertical, horizontal = (extent.through(w) for extent, w in zip(fields, found, strict=True))
    return Map((-2, -1), (vertical, horizontal))


def _joined(call: Call, taken: Maps) -> Map | None:
    """One map of several that are laid over each other."""
    if any(place is None for place in taken):
        return None
    first, *others = (place for place in taken if place)
    for other in others:
        if other.axes != first.axes:
            return None
        first = Map(first.axes, _both(first.fields, other.fields))
    return first


def _both(
    one: tuple[Extent, Extent] | None, other: tuple[Extent, Extent] | None
) -> tuple[Extent, Extent] | None:
    if (
        one is None
        or other is None
        or any(a.jump != b.jump for a, b in zip(one, other, strict=True))
    ):
        return None
    return one[0].joined(other[0]), one[1].joined(other[1])


def _along(call: Call, taken: Maps, axes: Sequence[int], *, kept: bool) -> Map | None:
    """What works along some axes: units see the whole of those. `kept` axes stay."""
    [place] = taken[:1]
    if place is None:
        return None
    rank = len(operand(call, 0, "input").batch_shape)
    along = {axis % rank - rank for axis in axes}
    if not kept:
        if along & set(place.axes):
            return None
        gone = [sum(axis < other for other in along) for axis in place.axes]
        return replace(place, axes=(place.axes[0] + gone[0], place.axes[1] + gone[1]))
    return replace(place, fields=None) if along & set(place.axes) else place


def _mean(call: Call, taken: Maps) -> Map | None:
    given = argument(call, 1, "dim")
    if given is None:
        return None
    axes = [given] if isinstance(given, int) else list(cast("Sequence[int]", given))
    return _along(call, taken, axes, kept=bool(argument(call, 2, "keepdim", False)))


def _softmax(call: Call, taken: Maps) -> Map | None:
    return _along(call, taken, [int(argument(call, 1, "dim", -1))], kept=True)


def _linear(call: Call, taken: Maps) -> Map | None:
    return _along(call, taken, [-1], kept=True)


def _layer_norm(call: Call, taken: Maps) -> Map | None:
    shape = list(cast("Sequence[int]", argument(call, 1, "normalized_shape")))
    return _along(call, taken, [-1 - n for n in range(len(shape))], kept=True)


def _group_norm(_: Call, taken: Maps) -> Map | None:
    return replace(taken[0], fields=None) if taken[0] else None


def _cat(call: Call, taken: Maps) -> Map | None:
    place = _joined(call, taken)
    return place if place and not _cuts(call, place, argument(call, 1, "dim", 0)) else None


def _chunk(call: Call, taken: Maps) -> Map | None:
    place = taken[0]
    return place if place and not _cuts(call, place, argument(call, 2, "dim", 0)) else None


def _cuts(call: Call, place: Map, axis: int) -> bool:
    rank = len(call.outputs[0].batch_shape)
    return axis % rank - rank in place.axes


def _permute(call: Call, taken: Maps) -> Map | None:
    dims = [axis for axis in leaves(int, (call.args[1:], call.kwargs.get("dims", ())))]
    return _moved(taken[0], [axis % len(dims) for axis in dims])


def _transpose(call: Call, taken: Maps) -> Map | None:
    rank = len(call.outputs[0].batch_shape)
    one = argument(call, 1, "dim0", call.kwargs.get("axis0")) % rank
    other = argument(call, 2, "dim1", call.kwargs.get("axis1")) % rank
    dims = list(range(rank))
    dims[one], dims[other] = other, one
    return _moved(taken[0], dims)


def _moved(place: Map | None, dims: Sequence[int]) -> Map | None:
    """Where the axes are, after axis n was taken from `dims[n]`."""
    if place is None:
        return None
    rank = len(dims)
    vertical, horizontal = (dims.index(axis + rank) - rank for axis in place.axes)
    return replace(place, axes=(vertical, horizontal))


def _reshaped(call: Call, taken: Maps) -> Map | None:
    """Maps stay maps while height and width stay the last two axes."""
    before, after = operand(call, 0, "input").batch_shape, call.outputs[0].batch_shape
    place = taken[0]
    same = len(before) > 2 and len(after) > 2 and before[-2:] == after[-2:]
    return place if place and place.axes == (-2, -1) and same else None


def _unsqueezed(call: Call, taken: Maps) -> Map | None:
    place, rank = taken[0], len(call.outputs[0].batch_shape)
    new = argument(call, 1, "dim") % rank - rank
    if place is None:
        return None
    vertical, horizontal = (axis - 1 if axis <= new else axis for axis in place.axes)
    return replace(place, axes=(vertical, horizontal))


def _item(call: Call, taken: Maps) -> Map | None:
    """Indexing with whole slices and single numbers, as x[:, 0]."""
    place, given = taken[0], call.args[1]
    items = cast("Sequence[object]", given if isinstance(given, tuple) else (given,))
    rank = len(operand(call, 0, "input").batch_shape)
    gone = [n - rank for n, item in enumerate(items) if type(item) is int]
    plain = all(type(item) is int or item == slice(None) for item in items)
    return _along(call, taken, gone, kept=False) if place and plain else None


def _padded(call: Call, taken: Maps) -> Map | None:
    place, sizes = taken[0], cast("Sequence[int]", argument(call, 1, "pad"))
    if place is None or place.fields is None:
        return place
    before = [sizes[2 * (-axis - 1)] if -2 * axis <= len(sizes) else 0 for axis in place.axes]
    vertical, horizontal = (
        replace(extent, first=extent.first - count * extent.jump)
        for extent, count in zip(place.fields, before, strict=True)
    )
    return replace(place, fields=(vertical, horizontal))


# Those that take maps and nothing else, besides poolings.
MAPPERS = frozenset({"conv2d", "conv_transpose2d", "batch_norm", "local_response_norm"})
RULES: Mapping[str, Rule] = {
    **dict.fromkeys((*POOLS, *ADAPTIVE_POOLS, "conv2d"), _windowed),
    "conv_transpose2d": lambda _call, _taken: Map((-2, -1), None),
    **dict.fromkeys(POINTWISE, _joined),
    **dict.fromkeys(RESHAPES, _reshaped),
    **dict.fromkeys(("transpose", "swapaxes", "swapdims"), _transpose),
    **dict.fromkeys(("mean", "sum", "amax"), _mean),
    **dict.fromkeys(("softmax", "log_softmax"), _softmax),
    **dict.fromkeys(("group_norm", "instance_norm"), _group_norm),
    **dict.fromkeys(("cat", "concat", "concatenate"), _cat),
    **dict.fromkeys(("chunk", "split"), _chunk),
    "linear": _linear,
    "layer_norm": _layer_norm,
    "permute": _permute,
    "unsqueeze": _unsqueezed,
    "getitem": _item,
    "pad": _padded,
}
