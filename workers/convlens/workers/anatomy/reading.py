"""Reads the outputs of chosen calls in a forward pass, with nothing put on any module."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.overrides import TorchFunctionMode

from convlens.workers.anatomy.names import gives_tensors, plain_name
from convlens.workers.anatomy.removal import Detour, Removal
from convlens.workers.anatomy.values import Call, Trace

Tap = Callable[[Tensor], None]


class Unsteady(RuntimeError):
    """A network makes other calls for this picture than for the one that was traced."""


class Reading(TorchFunctionMode):
    """Counts the calls of a forward pass, and hands the outputs of some of them to `taps`.

    A mode belongs to its thread: others that run the same module see nothing of it. Enter it last
    of all modes, so that it sees each call as the module makes it. What a later call overwrites is
    handed over as a copy. With `stop`, the pass ends after the last tap by an exception; `run`
    catches it.

    `edges` has, after the pass, where a gradient reaches the outputs of the calls `watched`: it is
    that of the output itself, also where a later call overwrites it.

    The pass goes on without the layers `removed`; their outputs are handed over as they go on.
    """

    def __init__(
        self,
        trace: Trace,
        taps: Mapping[int, Tap],
        *,
        watched: Collection[int] = (),
        stop: bool = True,
        removed: Sequence[Removal] = (),
    ) -> None:
        super().__init__()
        self.edges: dict[int, GradientEdge] = {}
        self._calls = trace.calls
        self._taps = taps
        self._watched = frozenset(watched)
        self._last = max(taps, default=-1)
        self._end = self._last if stop else len(trace.calls)
        self._stop = stop
        self._count = 0
        self._detour = Detour(trace, removed) if removed else None

    def run(self, module: nn.Module, pixels: Tensor) -> Tensor | None:
        """Runs the module; gives its output, or None where the pass was stopped before it.

        Raises Unsteady where the module makes other calls than when it was traced.
        """
        try:
            with self:
                output: Tensor = module(pixels)
        except _Stopped:
            return None
        if self._count <= self._last or (not self._stop and self._count != len(self._calls)):
            raise Unsteady(
                f"this forward pass made {self._count} calls; when the network was traced, "
                f"it made {len(self._calls)}"
            )
        return output

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if self._detour:
            args, kwargs = self._detour.taking(self._count, func, args, kwargs)
        out = func(*args, **kwargs) if kwargs else func(*args)
        if gives_tensors(func, out):
            index = self._count
            self._count = index + 1
            known = self._calls[index].function if index < len(self._calls) else "none"
            if plain_name(func) != known:
                raise Unsteady(
                    f"call {index} of this forward pass is {plain_name(func)}; when the network "
                    f"was traced, it was {known}"
                )
            if self._detour:
                out = self._detour.giving(index, out, args, kwargs or {})
            if index in self._watched:
                self.edges[index] = get_gradient_edge(out)
            if index in self._taps:
                self._tap(self._calls[index], out)
        return out

    def _tap(self, call: Call, out: Tensor) -> None:
        lost = call.overwritten is not None and call.overwritten <= self._end
        self._taps[call.index](out.clone() if lost else out)
        if self._stop and call.index == self._last:
            raise _Stopped


def read(trace: Trace, module: nn.Module, pixels: Tensor, wanted: Sequence[int]) -> list[Tensor]:
    """The outputs of the calls `wanted`, in that order, from one forward pass that stops there.

    `pixels` [n, channels, height, width] are of the traced size; n may be any. Each output is as
    the call gave it, batch and all: `Value.rows` takes the images apart. A call may be wanted
    twice. Works under inference_mode, and with gradients. Raises Unsteady where the module
    makes other calls than when it was traced.
    """
    kept: dict[int, Tensor] = {}

    def keep(index: int) -> Tap:
        return lambda output: kept.update({index: output})

    Reading(trace, {index: keep(index) for index in wanted}).run(module, pixels)
    return [kept[index] for index in wanted]


def is_steady(trace: Trace, module: nn.Module, pictures: Iterable[Tensor]) -> bool:
    """Whether the network makes the calls of the trace for each of the pictures [1, ...]."""
    try:
        with torch.inference_mode():
            for picture in pictures:
                Reading(trace, {}, stop=False).run(module, picture)
    except Unsteady:
        return False
    return True


# Not an Exception: a module that catches those must not go on after the last tap.
class _Stopped(BaseException):
    """Ends a forward pass whose taps are all done."""
