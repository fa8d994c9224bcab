"""Reads weights from files without ever unpickling objects, and lays them into networks."""

import pickle
import re
import warnings
from collections import OrderedDict
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file  # pyright: ignore[reportUnknownVariableType]
from torch import Tensor, nn

from convlens.workers.builders.builder import BuildError

State: TypeAlias = "OrderedDict[str, Tensor]"

# Under which training scripts put the weights, beside an optimizer and an epoch.
WRAPPINGS = ("state_dict", "model_state_dict", "model")
# What DataParallel and torch.compile put before every name.
PREFIXES = ("module.", "_orig_mod.")
# Counted while training; files of before torch 0.4.1 lack it, and nothing here needs it.
COUNTER = "num_batches_tracked"
GLOBAL = re.compile(r"GLOBAL ([\w.]+)")
MAX_LISTED = 8


@contextmanager
def seeded() -> Generator[None]:
    """Random weights come out alike each time, and nobody else's randomness is touched."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def load_into(body: nn.Module, file: Path, rename: Callable[[str], str | None] = str) -> None:
    """Lays a file's weights into a network; `rename` gives a name's new form, or None to drop it.

    Raises BuildError with everything that is missing, unexpected or of another shape.
    """
    state = read_weights(file)
    renamed = OrderedDict((new, state[old]) for old in state if (new := rename(old)) is not None)
    own = cast("State", body.state_dict())
    renamed.update(
        (name, own[name]) for name in own if name.endswith(COUNTER) and name not in renamed
    )
    if mismatches := _mismatches(renamed, own):
        text = "; ".join(mismatches)
        raise BuildError("weights", f"{file} does not fit the network: {text}")
    # Modules look into it for the version of their format; safetensors have none, so: the newest.
    any_state: Any = renamed
    any_state._metadata = getattr(state, "_metadata", None) or getattr(own, "_metadata", None)
    body.load_state_dict(renamed)


def read_weights(file: Path) -> State:
    """The tensors of a .safetensors, .pth or .pt file by name, on the CPU; raises BuildError.

    Wrappings like {"state_dict": …} and prefixes like "module." are taken off.
    """
    try:
        if file.suffix == ".safetensors":
            return OrderedDict(load_file(file))
        with file.open("rb") as opened, warnings.catch_warnings():
            # torch warns of pickles that it does not know, before it refuses them.
            warnings.simplefilter("ignore", UserWarning)
            found: object = torch.load(opened, map_location="cpu", weights_only=True)
    except OSError as error:
        raise BuildError("weights", f"{file}: {error.strerror or error}") from None
    except SafetensorError as error:
        raise BuildError("weights", f"{file} is damaged or no safetensors file: {error}") from None
    except pickle.UnpicklingError as error:
        raise BuildError("weights", _refused(file, str(error))) from None
    except Exception as error:
        # Whatever a damaged archive leads torch to.
        words = str(error).partition("\n")[0] or type(error).__name__
        raise BuildError(
            "weights", f"{file} is damaged or no file of torch.save: {words}"
        ) from None
    return _without_prefixes(_tensors(file, found))


def _refused(file: Path, reason: str) -> str:
    named = GLOBAL.search(reason)
    if not named:
        words = reason.partition("\n")[0].partition(", which")[0]
        return f"{file} is damaged or no file of torch.save, and was not unpickled: {words}"
    return (
        f"{file} holds objects ({named[1]}) beside or instead of weights; it was not opened, since "
        "a pickle can run any code. Save the weights alone, where you trust it: "
        "torch.save(network.state_dict(), FILE)"
    )


def _tensors(file: Path, found: object) -> State:
    """The state dict in what a file held."""
    if isinstance(found, Mapping):
        values = cast("Mapping[object, object]", found)
        for key in WRAPPINGS:
            if isinstance(values.get(key), Mapping):
                return _tensors(file, values[key])
        wrong = next((k for k, v in values.items() if not isinstance(v, Tensor)), None)
        if values and wrong is None:
            return cast("State", found)
        what = f"{wrong} is a {type(values[wrong]).__name__}" if values else "it is empty"
    else:
        what = f"it is a {type(found).__name__}"
    raise BuildError(
        "weights",
        f"{file} holds no weights: {what}; must be tensors by name, as state_dict() gives them",
    )


def _without_prefixes(state: State) -> State:
    for prefix in PREFIXES:
        if all(name.startswith(prefix) for name in state):
            return _without_prefixes(
                OrderedDict((name.removeprefix(prefix), value) for name, value in state.items())
            )
    return state


def _mismatches(state: State, own: State) -> list[str]:
    shapes = [
        f"{name} is {list(state[name].shape)} in the file, {list(own[name].shape)} in the network"
        for name in own
        if name in state and state[name].shape != own[name].shape
    ]
    lists = {
        "missing": [name for name in own if name not in state],
        "unexpected": [name for name in state if name not in own],
        "of another shape": shapes,
    }
    return [f"{len(names)} {what}: {_listed(names)}" for what, names in lists.items() if names]


def _listed(names: Sequence[str]) -> str:
    more = len(names) - MAX_LISTED
    return ", ".join(names[:MAX_LISTED]) + (f" and {more} more" if more > 0 else "")
