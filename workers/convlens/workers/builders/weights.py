"""Reads weights from files without ever unpickling objects, and lays them into networks."""

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
from torch.nn.parameter import is_lazy

from convlens.workers.builders.builder import BuildError
from convlens.workers.builders.pickles import foreign_names, is_script

State: TypeAlias = "OrderedDict[str, Tensor]"

# Under which training scripts put the weights, beside an optimizer and an epoch.
WRAPPINGS = ("state_dict", "model_state_dict", "model")
# What DataParallel and torch.compile put before every name.
PREFIXES = ("module.", "_orig_mod.")
# Counted while training; files of before torch 0.4.1 lack it, and nothing here needs it.
COUNTER = "num_batches_tracked"
MAX_LISTED = 8
# A dictionary may hold itself.
MAX_WRAPPINGS = 4


@contextmanager
def seeded() -> Generator[None]:
    """Random weights come out alike each time, and nobody else's randomness is touched."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def load_into(body: nn.Module, file: Path, rename: Callable[[str], str | None] = str) -> None:
    """Lays a file's weights into a network; `rename` gives a name's new form, or None to drop it.

    Raises BuildError with everything that is missing, unexpected, or of another shape or type.
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
    try:
        body.load_state_dict(renamed)
    except Exception as error:
        # Modules may load in a way of their own.
        words = " ".join(str(error).split()) or type(error).__name__
        raise BuildError("weights", f"{file} cannot be laid into the network: {words}") from None


def read_weights(file: Path) -> State:
    """The tensors of a .safetensors, .pth or .pt file by name, on the CPU; raises BuildError.

    Wrappings like {"state_dict": …} and prefixes like "module." are taken off.
    """
    try:
        if file.suffix == ".safetensors":
            found: object = OrderedDict(load_file(file))
        else:
            found = _loaded(file)
    except OSError as error:
        raise BuildError("weights", f"{file}: {error.strerror or error}") from None
    except SafetensorError as error:
        raise BuildError("weights", f"{file} is damaged or no safetensors file: {error}") from None
    except Exception as error:
        # Whatever a damaged archive leads torch to.
        raise BuildError("weights", _refused(file, error)) from None
    return _without_prefixes(_tensors(file, found))


def _loaded(file: Path) -> object:
    with file.open("rb") as opened, warnings.catch_warnings():
        # torch warns of pickles that it does not know, before it refuses them.
        warnings.simplefilter("ignore", UserWarning)
        return torch.load(opened, map_location="cpu", weights_only=True)


def _refused(file: Path, error: Exception) -> str:
    """Why a file of torch.save was not read; in no words of torch's, which advise to unpickle."""
    if is_script(file):
        return (
            f"{file} is a program of TorchScript; it was not opened, since it can run any code. "
            "Save its weights alone, where you trust it: "
            "torch.save(torch.jit.load(FILE).state_dict(), OTHER_FILE)"
        )
    if isinstance(error, MemoryError):
        return f"{file} is too large for this machine's memory"
    names = foreign_names(file)
    if names is None:
        return f"{file} is damaged or no file of torch.save"
    calls = f" and calls for {_listed(names)}" if names else ""
    return (
        f"{file} holds a pickle that is not weights alone{calls}; it was not opened, since a "
        "pickle can run any code. Save the weights alone, where you trust it: "
        "torch.save(network.state_dict(), FILE)"
    )


def _tensors(file: Path, found: object) -> State:
    """The state dict in what a file held."""
    for _ in range(MAX_WRAPPINGS):
        inner = _unwrapped(found)
        if inner is None:
            break
        found = inner
    if wrong := _wrong(found):
        raise BuildError(
            "weights",
            f"{file} holds no weights: {wrong}; must be tensors by name, as state_dict() gives "
            "them",
        )
    return cast("State", found)


def _unwrapped(found: object) -> object | None:
    if not isinstance(found, Mapping):
        return None
    values = cast("Mapping[object, object]", found)
    return next((values[key] for key in WRAPPINGS if isinstance(values.get(key), Mapping)), None)


def _wrong(found: object) -> str | None:
    """What about a state dict is none."""
    if not isinstance(found, Mapping):
        return f"it is a {type(found).__name__}"
    values = cast("Mapping[object, object]", found)
    if not values:
        return "it is empty"
    for name, value in values.items():
        if not isinstance(name, str):
            return f"{name!r} is a {type(name).__name__} and no name"
        if not isinstance(value, Tensor):
            return f"{name} is a {type(value).__name__}"
        if value.is_meta:
            return f"{name} is a tensor without values, on the meta device"
        if value.layout != torch.strided or value.is_nested or value.is_quantized:
            kind = "quantized" if value.is_quantized else "sparse or nested"
            return f"{name} is a {kind} tensor and must be a dense one"
    return None


def _without_prefixes(state: State) -> State:
    for prefix in PREFIXES:
        if all(name.startswith(prefix) for name in state):
            return _without_prefixes(
                OrderedDict((name.removeprefix(prefix), value) for name, value in state.items())
            )
    return state


def _mismatches(state: State, own: State) -> list[str]:
    # Lazy layers take their shapes from the file.
    shared = [name for name in own if name in state and not is_lazy(own[name])]
    lists = {
        "missing": [name for name in own if name not in state],
        "unexpected": [name for name in state if name not in own],
        "of another shape": [
            f"{name} is {list(state[name].shape)} in the file, {list(own[name].shape)} in the "
            "network"
            for name in shared
            if state[name].shape != own[name].shape
        ],
        "of another type": [
            f"{name} is {_type(state[name])} in the file, {_type(own[name])} in the network"
            for name in shared
            if not _converts(state[name], own[name].dtype)
        ],
    }
    return [f"{len(names)} {what}: {_listed(names)}" for what, names in lists.items() if names]


def _converts(value: Tensor, dtype: torch.dtype) -> bool:
    """Whether values mean the same in another type: rounding is fine, and nothing else."""
    if value.is_complex() or value.dtype.is_floating_point == dtype.is_floating_point:
        return value.is_complex() == dtype.is_complex
    # Whoever casts a whole file to halves casts its counters and indices, too.
    return value.is_floating_point() and torch.equal(value.to(dtype).double(), value.double())


def _type(value: Tensor) -> str:
    return str(value.dtype).removeprefix("torch.")


def _listed(names: Sequence[str]) -> str:
    more = len(names) - MAX_LISTED
    return ", ".join(names[:MAX_LISTED]) + (f" and {more} more" if more > 0 else "")
