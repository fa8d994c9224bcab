"""Makes methods of a client from operations, with their signatures, overloads and docstrings."""

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])

SELF = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
IMAGES = inspect.Parameter("images", inspect.Parameter.POSITIONAL_ONLY)


def dressed(method: F, build: Callable[..., object], *first: inspect.Parameter) -> F:
    """`method` with the name and the words of `build`, and its parameters after `first`.

    What `build` takes first, the client's settings, is not its caller's to give.
    """
    _, *parameters = inspect.signature(build).parameters.values()
    # The build returns what is to be done, the method what came of it: only the types know that.
    vars(method)["__signature__"] = inspect.Signature([SELF, *first, *parameters])
    method.__name__ = method.__qualname__ = build.__name__
    method.__doc__ = build.__doc__
    return method
