"""The trace of a network at a larger picture, by arithmetic: nothing is run."""

from dataclasses import replace
from math import prod
from typing import Any

from convlens.workers.anatomy import Call, Trace, Value
from convlens.workers.anatomy.recorder import mapped
from convlens.workers.dense.seam import Seam, Sides, sides
from convlens.workers.dense.windows import grid


def grown(trace: Trace, seam: Seam, height: int, width: int) -> Trace:
    """The same calls with the shapes that they have for a picture of this size.

    Maps before the seam grow by a unit for each of their steps in pixels. Behind it there is an
    entry for each place, as if it were an image. Numbers among the arguments stay as they are.
    """
    found = sides(trace)
    larger = height - trace.image[1], width - trace.image[2]
    places = prod(grid(trace, seam, height, width))

    def change(call: Call) -> Call:
        averaged = call.index in seam.averages

        def changed(leaf: Any) -> Any:
            if not isinstance(leaf, Value) or leaf.axis is None:
                return leaf
            enters = not found.local[call.index] and leaf.source == seam.maps
            if found.is_local(leaf) and not enters:
                return _spread(leaf, found, larger)
            return _repeated(leaf, places, averaged and enters)

        parts = mapped(changed, (call.args, call.kwargs, call.operands, call.outputs))
        args, kwargs, operands, outputs = parts
        return replace(call, args=args, kwargs=kwargs, operands=operands, outputs=outputs)

    calls = tuple(change(call) for call in trace.calls)
    return replace(trace, image=(trace.image[0], height, width), calls=calls)


def _spread(value: Value, found: Sides, larger: tuple[int, int]) -> Value:
    """A map of more places."""
    place = found.map_of(value)
    if place is None or place.fields is None:
        return value
    shape = list(value.batch_shape)
    for axis, extent, pixels in zip(place.axes, place.fields, larger, strict=True):
        shape[axis] += pixels // extent.jump
    return replace(value, batch_shape=tuple(shape))


def _repeated(value: Value, places: int, averaged: bool) -> Value:
    """What there is once for each place; of maps, their windows or the means of those."""
    shape = list(value.batch_shape)
    if value.axis is not None:
        shape[value.axis] *= places
    if averaged:
        shape[-2:] = 1, 1
    return replace(value, batch_shape=tuple(shape))
