"""Finds the batch in what was recorded twice, with different numbers of images."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from convlens.workers.anatomy.recorder import Record, leaves, mapped
from convlens.workers.anatomy.values import Call, Value


def merged(
    few: Sequence[Record], more: Sequence[Record], counts: tuple[int, int]
) -> tuple[Call, ...]:
    """The calls with shapes of one image, of two passes with so many images.

    Raises RuntimeError where the passes are not alike.
    """
    if [record.function for record in few] != [record.function for record in more]:
        raise RuntimeError(
            f"the network makes {len(few)} calls with {counts[0]} images and {len(more)} with "
            f"{counts[1]}, or others; it must do the same for each image of a batch"
        )
    return tuple(_call(*pair, counts) for pair in zip(few, more, strict=True))


def _call(few: Record, more: Record, counts: tuple[int, int]) -> Call:
    def change(one: Any, other: Any) -> Any:
        return _value(one, other, counts) if isinstance(one, Value) else one

    args, kwargs, outputs = mapped(
        change, (few.args, few.kwargs, few.outputs), (more.args, more.kwargs, more.outputs)
    )
    operands = tuple(leaves(Value, (args, kwargs)))
    return Call(
        few.index,
        few.function,
        args,
        kwargs,
        outputs,
        few.plural,
        operands,
        few.overwritten,
        few.fresh,
    )


def _value(few: Value, more: Value, counts: tuple[int, int]) -> Value:
    grows = [
        axis
        for axis, (one, other) in enumerate(zip(few.batch_shape, more.batch_shape, strict=True))
        if one != other
    ]
    if len(grows) != 1:
        return few
    [axis] = grows
    each, rest = divmod(few.batch_shape[axis], counts[0])
    if rest or each * counts[1] != more.batch_shape[axis]:
        return few
    shape = (*few.batch_shape[:axis], each, *few.batch_shape[axis + 1 :])
    return replace(few, batch_shape=shape, axis=axis)
