"""Arguments of a traced call, by position or by name."""

from collections.abc import Sequence
from typing import Any, cast

from convlens.workers.anatomy.values import Call, Value


def argument(call: Call, position: int, name: str, default: object = None) -> Any:
    """An argument as it was given, else its default."""
    if name in call.kwargs:
        return call.kwargs[name]
    return call.args[position] if position < len(call.args) else default


def operand(call: Call, position: int, name: str) -> Value:
    """An argument that is a tensor; raises TypeError where it is none."""
    found = argument(call, position, name)
    if not isinstance(found, Value):
        raise TypeError(f"{name} of call {call.index}, {call.function}, is no tensor")
    return found


def pair(given: Any) -> tuple[Any, Any]:
    """What holds for the vertical and the horizontal axis: one for both, or one each."""
    if isinstance(given, (tuple, list)):
        items = cast("Sequence[Any]", given)
        return (items[0], items[0]) if len(items) == 1 else (items[0], items[1])
    return given, given
