"""What torch functions are called, and which of them count."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, cast

from torch import Tensor

SETITEM = "setitem"
_SETITEM = Tensor.__setitem__
# Operators that torch writes as methods of the right operand.
_REFLECTED = {
    f"r{name}": name for name in ("add", "sub", "mul", "div", "pow", "matmul", "floordiv", "mod")
}


def gives_tensors(func: Callable[..., Any], out: object) -> bool:
    """Whether a call counts: it gave a tensor, or changed one by assignment.

    Others (sizes, types, flags) do not: how often they are asked may depend on the mode.
    """
    if isinstance(out, Tensor):
        return True
    if isinstance(out, (tuple, list)):
        return any(isinstance(item, Tensor) for item in cast("Sequence[object]", out))
    return func is _SETITEM


@cache
def plain_name(func: Callable[..., Any]) -> str:
    """A function's name as people say it: "add" for +, += and add_, "T" for the property."""
    name: str = getattr(func, "__name__", type(func).__name__)
    if name == "__get__":
        name = getattr(getattr(func, "__self__", None), "__name__", name)
    if name.startswith("__") and name.endswith("__"):
        name = name[2:-2]
        if name[0] == "i" and hasattr(Tensor, f"__{name[1:]}__"):
            name = name[1:]
    return _REFLECTED.get(name, name.strip("_") or name)
