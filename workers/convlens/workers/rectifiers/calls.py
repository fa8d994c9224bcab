"""Which calls of torch's functions are rectifiers, and which pool maxima."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf
from typing import Any

from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True, slots=True)
class Rectifier:
    """A call that gives what is positive of `input`, up to `cap`, and 0 for the rest."""

    input: Tensor
    cap: float = inf


def rectifier(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Rectifier | None:
    """The rectifier that a call is, by the function's plain name; None where it is none.

    What lets something of the negative through (leaky, ELU) or cuts elsewhere than at 0 is none.
    """
    read = _RECTIFIERS.get(name)
    # What is written to tensors of the caller's has no gradient.
    found = read(*args, **kwargs) if read and "out" not in kwargs else None
    return found if found and found.input.requires_grad else None


def _relu(input: Tensor, inplace: bool = False) -> Rectifier:
    return Rectifier(input)


def _relu6(input: Tensor, inplace: bool = False) -> Rectifier:
    return Rectifier(input, 6)


def _hardtanh(
    input: Tensor, min_val: float = -1, max_val: float = 1, inplace: bool = False
) -> Rectifier | None:
    return Rectifier(input, max_val) if min_val == 0 else None


def _threshold(
    input: Tensor, threshold: float, value: float, inplace: bool = False
) -> Rectifier | None:
    return Rectifier(input) if threshold >= 0 and value == 0 else None


def _clamp(input: Tensor, min: object = None, max: object = None) -> Rectifier | None:
    cap = inf if max is None else max
    if not isinstance(min, (int, float)) or not isinstance(cap, (int, float)):
        return None
    return Rectifier(input, cap) if min == 0 else None


def _maximum(input: Tensor, other: Tensor) -> Rectifier | None:
    larger, zero = (input, other) if input.requires_grad else (other, input)
    fits = zero.dim() == 0 or zero.shape == larger.shape
    return Rectifier(larger) if fits and not zero.requires_grad and not zero.any() else None


def _max(input: Tensor, dim: object = None, *_: Any, other: Any = None, **__: Any) -> Any:
    """The larger of two tensors, where the second is one; else the maximum along an axis."""
    second = dim if isinstance(dim, Tensor) else other
    return None if second is None else _maximum(input, second)


_RECTIFIERS: Mapping[str, Callable[..., Rectifier | None]] = {
    "relu": _relu,
    "relu6": _relu6,
    "hardtanh": _hardtanh,
    "threshold": _threshold,
    "clamp": _clamp,
    "clip": _clamp,
    "clamp_min": _clamp,
    "maximum": _maximum,
    "fmax": _maximum,
    "max": _max,
}


@dataclass(frozen=True, slots=True)
class Pool:
    """A call that pools maxima of `input`; `run` gives them [..., h, w] with their switches.

    A switch is the place of a maximum in its map, counted row by row.
    """

    input: Tensor
    run: Callable[[], tuple[Tensor, Tensor]]


def pooled(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Pool | None:
    """The pooling of maxima over maps that a call is, None where it is none."""
    read = _POOLS.get(name)
    found = read(*args, **kwargs) if read else None
    return found if found and found.input.requires_grad else None


def _max_pool(
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Pool:
    def run() -> tuple[Tensor, Tensor]:
        return functional.max_pool2d_with_indices(
            input, kernel_size, stride, padding, dilation, ceil_mode
        )

    return Pool(input, run)


def _adaptive_max_pool(input: Tensor, output_size: Any, return_indices: bool = False) -> Pool:
    return Pool(input, lambda: functional.adaptive_max_pool2d_with_indices(input, output_size))


_POOLS: Mapping[str, Callable[..., Pool]] = {
    "max_pool2d": _max_pool,
    "adaptive_max_pool2d": _adaptive_max_pool,
}
