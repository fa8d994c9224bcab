"""Holds a forward pass over patches against the trace: nothing may come of a patch's size.

A network's code may read how large its maps are. Over patches it then reads other numbers, and what
it computes with them would be wrong without an error. So every call has to be given the numbers
that it was given when the network was traced, and tensors of the shapes that the course foresees.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

from torch import Tensor

from convlens.workers.anatomy import INPUT, Call, Unsteady, Value
from convlens.workers.anatomy.functions import RESHAPES
from convlens.workers.anatomy.recorder import leaves
from convlens.workers.anatomy.trace import FEW
from convlens.workers.incremental.course import Bands, Course


class Watching:
    """Looks at the calls of one pass of a course, over so many rows; raises Unsteady."""

    def __init__(self, course: Course, rows: int) -> None:
        self._course = course
        self._rows = rows
        self._stale: dict[int, Tensor] = {}

    def before(self, call: Call, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Checks what a call is given."""
        # What is reshaped may be told its size; the shape that comes of it is looked at.
        is_told = call.function in RESHAPES or self._is_same(args, call.args)
        if not is_told or not self._is_same(kwargs, call.kwargs):
            raise Unsteady(f"{call.function} is given other numbers for parts of its maps")
        for tensor, value in zip(leaves(Tensor, (args, kwargs)), call.operands, strict=True):
            if (shape := tuple(tensor.shape)) != self._taken(value):
                raise Unsteady(f"{call.function} is given {shape}, which is no part of its map")
            if self._stale and _memory(tensor) in self._stale:
                raise Unsteady(f"{call.function} is given what was written to elsewhere")

    def after(self, call: Call, out: object, copies: Iterable[tuple[Tensor, Tensor, int]]) -> None:
        """Checks what a call gave.

        `copies` are operands, what was handed over in their place, and its version before the call.
        """
        step = self._course.steps[call.index]
        for tensor, value in zip(leaves(Tensor, out), call.outputs, strict=False):
            if (shape := tuple(tensor.shape)) != self._shape(value, step.patch, step.axes):
                raise Unsteady(f"{call.function} gives {shape}, which is no part of its map")
        for operand, copy, version in copies:
            if copy._version != version:
                # The network's own tensor was not written to, so nothing may be made of it.
                self._stale[_memory(operand)] = operand

    def _taken(self, value: Value) -> tuple[int, ...]:
        if value.source == INPUT:
            return self._shape(value, self._course.start, (-2, -1))
        if value.axis is None or value.source is None:
            return self._shape(value, None, (-2, -1))
        step = self._course.steps[value.source]
        return self._shape(value, step.patch, step.axes)

    def _shape(self, value: Value, patch: Bands | None, axes: tuple[int, int]) -> tuple[int, ...]:
        shape = list(value.batch_shape)
        if value.axis is not None:
            shape[value.axis] *= self._rows
            for band, axis in zip(patch or (), axes, strict=False):
                shape[axis] = band.length
        return tuple(shape)

    def _is_same(self, given: object, traced: object) -> bool:
        """Whether arguments are those of the trace, but for how many images there are."""
        if isinstance(traced, Value):
            return isinstance(given, Tensor)
        if isinstance(traced, (tuple, list)):
            items, others = cast("Sequence[object]", given), cast("Sequence[object]", traced)
            return (
                isinstance(given, (tuple, list))
                and len(items) == len(others)
                and all(map(self._is_same, items, others))
            )
        if isinstance(traced, dict):
            named, names = cast("dict[str, object]", given), cast("dict[str, object]", traced)
            return named.keys() == names.keys() and all(
                self._is_same(named[name], names[name]) for name in names
            )
        return bool(given == traced) or (traced == FEW and given == self._rows)


def _memory(tensor: Tensor) -> int:
    """The identity of a tensor's memory."""
    return tensor.untyped_storage()._cdata  # pyright: ignore[reportPrivateUsage]
