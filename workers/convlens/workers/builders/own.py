"""Networks of one's own: a function that returns one."""

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, final

from convlens.workers.builders.builder import (
    RANDOM,
    Builder,
    BuildError,
    Built,
    Order,
    is_file_name,
)
from convlens.workers.raised import in_words


@final
class Own(Builder):
    """`MODULE:FUNCTION`, called with the entry's arguments alone; it returns an nn.Module."""

    def check_name(self, name: str) -> None:
        """Names of Python; whether they are there is seen when they are imported."""
        module, _, function = name.partition(":")
        if not all(part.isidentifier() for part in (*module.split("."), function)):
            raise ValueError(
                f"is {name!r}; must be MODULE:FUNCTION in Python's names, such as "
                "my_networks.small:build"
            )

    def check_weights(self, name: str, weights: str | None) -> None:
        """A file, random, or none where the function loads them itself."""
        if weights is not None and weights != RANDOM and not is_file_name(weights):
            raise ValueError(
                f"is {weights!r}; for {name} it must be a file (.safetensors, .pth, .pt), or left "
                "out where the function loads them itself"
            )

    def fetch(self, name: str, weights: str) -> None:
        """Its weights have no names."""

    def build(self, order: Order) -> Built:
        """What the function returns, with a file's weights laid into it where one is given."""
        from torch import nn

        from convlens.workers.builders.weights import load_into, seeded

        function = _function(order)
        try:
            with seeded():
                body = function(**order.arguments)
        except Exception as error:
            raise BuildError("builder", f"{order.name} raised {in_words(error)}") from None
        if not isinstance(body, nn.Module):
            raise BuildError(
                "builder",
                f"{order.name} returned {_kind(body)}; must return a torch.nn.Module",
            )
        if order.file:
            load_into(body, order.file)
        if empty := _without_values(body):
            raise BuildError(
                "builder",
                f"{order.name} returned a network whose {empty} has no values: it is lazy or on "
                "the meta device; must be initialized, or a file of weights given",
            )
        return Built(body)


def _without_values(body: Any) -> str | None:
    from torch.nn.parameter import is_lazy

    named = (*body.named_parameters(), *body.named_buffers())
    return next((name for name, value in named if is_lazy(value) or value.is_meta), None)


def _function(order: Order) -> Callable[..., Any]:
    name, _, attribute = order.name.partition(":")
    # At the end: what is installed must not be hidden by a file that happens to have its name.
    if order.path and str(order.path) not in sys.path:
        sys.path.append(str(order.path))
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise BuildError("builder", f"{name} raised {in_words(error)}") from None
        raise BuildError(
            "builder",
            f"there is no module {error.name} in {order.path or Path.cwd()} or among the installed "
            "packages; path: names another folder to look in",
        ) from None
    except Exception as error:
        raise BuildError("builder", f"{name} raised {in_words(error)}") from None
    function = getattr(module, attribute, None)
    if not callable(function):
        has = "has no function" if function is None else f"has {_kind(function)} called"
        raise BuildError("builder", f"{module.__file__ or name} {has} {attribute}")
    return function


def _kind(value: object) -> str:
    return "None" if value is None else f"a {type(value).__name__}"
