"""Runs a forward pass without some of its layers, with nothing put on any module."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from convlens.workers.anatomy.names import plain_name
from convlens.workers.anatomy.recorder import leaves, mapped
from convlens.workers.anatomy.values import Node, Trace


@dataclass(frozen=True, slots=True)
class Removal:
    """How a pass goes on without a layer: what the layer takes stands for what it gives, or zeros.

    `calls` are those in the layer, and `call` the one that gives its output. What the layer takes
    is first used by the call `entry`, at that place among its operands. `identity` says that it has
    the shape of the output.
    """

    layer: str
    calls: range
    call: int
    entry: tuple[int, int]
    identity: bool


def removal(trace: Trace, name: str) -> Removal:
    """How to go on without the node `name`; raises KeyError.

    Raises ValueError where the node does not take one tensor and give one; it says why, as the end
    of a sentence: "takes several tensors".
    """
    node = trace.nodes[name]
    if node.call is None:
        raise ValueError(node.obstacle)
    if node.bound:
        raise ValueError(node.bound)
    call, place = entry = node.entry or _entry(trace, node)
    taken, given = trace.calls[call].operands[place], trace.calls[node.call].outputs[0]
    if taken.axis is None or given.axis is None:
        raise ValueError("does the same for every picture")
    alike = (taken.batch_shape, taken.axis) == (given.batch_shape, given.axis)
    return Removal(name, node.calls, node.call, entry, alike)


def _entry(trace: Trace, node: Node) -> tuple[int, int]:
    """Where a functional call takes its tensor; weights and other constants are none."""
    [index] = node.calls
    operands = enumerate(trace.calls[index].operands)
    places = [place for place, operand in operands if operand.axis is not None]
    if len(places) != 1:
        raise ValueError("takes several tensors" if places else "takes no tensor of the picture")
    return index, places[0]


class Detour:
    """The removed layers of one forward pass, while it runs.

    A removed layer computes all the same, so that calls keep their numbers, but on a copy of what
    it takes: nobody sees what it writes there. Its output is then replaced by memory of its own,
    into which later calls may write. Of layers that give the same output, the outermost counts.
    """

    def __init__(self, trace: Trace, removed: Sequence[Removal]) -> None:
        self._calls = trace.calls
        self._removed = removed
        inner_first = sorted(removed, key=lambda each: len(each.calls))
        self._ends = {each.call: each for each in inner_first}
        self._taken: dict[str, Tensor] = {}
        self._copies: dict[int, Tensor] = {}

    def taking(
        self,
        index: int,
        func: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any] | None,
    ) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
        """What a function, before or as call `index`, is to take in the place of its arguments."""
        given = args, dict(kwargs or {})
        inside = [each for each in self._removed if index in each.calls]
        if not inside:
            return given
        # Functions that give no tensors do not count, and come before the call of this number.
        if plain_name(func) == self._calls[index].function:
            for each in inside:
                if each.entry[0] == index:
                    taken = list(leaves(Tensor, given))[each.entry[1]]
                    self._taken[each.layer] = taken
                    self._copies.setdefault(id(taken), taken.clone())
        changed: Any = mapped(self._copy_of, given)
        return cast("tuple[tuple[Any, ...], dict[str, Any]]", changed)

    def giving(self, index: int, out: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """What call `index` is to give in the place of `out`, with the arguments that it had."""
        each = self._ends.get(index)
        if each is None:
            return out
        # Whoever holds the tensor of a call in place may not look at what it returns.
        in_place = any(tensor is out for tensor in leaves(Tensor, (args, kwargs)))
        made = out if in_place else torch.empty_like(out)
        return made.copy_(self._taken[each.layer]) if each.identity else made.zero_()

    def _copy_of(self, given: object) -> object:
        return self._copies.get(id(given), given) if isinstance(given, Tensor) else given
