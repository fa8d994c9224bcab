"""Judges every operation of a forward pass on what comes from the picture."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode

from convlens.workers.anatomy import Trace
from convlens.workers.anatomy.recorder import leaves
from convlens.workers.rectifiers.operations import (
    BLANKS,
    COPIES,
    FACTORS,
    GATES,
    LINEAR,
    NORM_FUNCTIONS,
    NORMS,
    POOLS,
    SWITCHES,
    name_of,
)
from convlens.workers.rectifiers.rules import Rule, Ruled


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """The call in which an operation runs; or that comes next, where Python did not call it."""

    call: int
    seen: bool


@dataclass(slots=True)
class _Gate:
    """Numbers that others are multiplied with, and the memory that they were made of.

    They are `used_in` the first call that multiplies.
    """

    kind: str
    place: Place
    source: int
    used_in: int | None = None

    def is_used(self, upto: int | None = None) -> bool:
        """Whether anything went through it, up to the end of a call if one is given."""
        return self.used_in is not None and (upto is None or self.used_in <= upto)


@dataclass(slots=True)
class _Operation:
    """An operation as it was called; `taken` are its operands that come from the picture."""

    name: str
    args: tuple[Any, ...]
    taken: list[Tensor]
    out: object


class Watch(TorchDispatchMode):
    """Follows a picture through a forward pass, below the modes that see Python's calls only.

    What a rule was applied to is good. Memory is told apart by its identity, so everything that was
    made is kept until the end.
    """

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Nothing compiled runs below it; and to skip torch's compiler, torch loads it for seconds.
        return False

    def __init__(self, ruled: Ruled, rule: Rule, trace: Trace, pixels: Tensor) -> None:
        super().__init__()
        self._ruled = ruled
        self._trace = trace
        self._harmless = LINEAR | SWITCHES
        # Where windows overlap, the plain gradient is a sum.
        if rule is not Rule.DECONVNET_MAX:
            self._harmless |= POOLS
        self._from_picture = {_memory(pixels): pixels}
        self._origins: dict[int, int] = {}
        self._gates: dict[int, _Gate] = {}
        self._obstacles: list[Place] = []
        self._norms: dict[str, None] = {}

    def obstacles(self, upto: int | None = None) -> list[Place]:
        """Where the rule has no answer, up to the end of a call if one is given.

        A gate that nothing went through until then is no gate.
        """
        end = len(self._trace.calls) if upto is None else upto
        useless = [gate.place for gate in self._gates.values() if not gate.is_used(end)]
        return sorted(place for place in {*self._obstacles, *useless} if place.call <= end)

    def notes(self) -> tuple[str, ...]:
        """What keeps its gradient, in sentences."""
        gates = dict.fromkeys(gate.kind for gate in self._gates.values() if gate.is_used())
        return tuple(f"{kind} keep their gradient" for kind in (*gates, *self._norms))

    def __torch_dispatch__(
        self,
        func: OpOverload,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        # It is called from Python here, which is no call of the network's own.
        with torch._C.DisableTorchFunction():  # pyright: ignore[reportPrivateUsage]
            out = func(*args, **kwargs)
        taken = [
            tensor for tensor in leaves(Tensor, (args, kwargs)) if self._is_from_picture(tensor)
        ]
        operation = _Operation(name_of(func), args, taken, out)
        if taken and operation.name not in BLANKS:
            if not self._ruled.ruling and not self._passes(operation):
                self._obstacles.append(self._place)
            self._from_picture.update({_memory(made): made for made in leaves(Tensor, out)})
        return out

    @property
    def _place(self) -> Place:
        return Place(self._ruled.count, self._ruled.calling)

    def _is_from_picture(self, value: object) -> bool:
        return isinstance(value, Tensor) and _memory(value) in self._from_picture

    def _passes(self, operation: _Operation) -> bool:
        """Whether the gradient goes back through it as the rule would have it."""
        name = operation.name
        if norm := NORMS.get(name) or NORM_FUNCTIONS.get(self._function):
            self._norms[norm] = None
            return True
        if name in GATES:
            return self._makes_gate(operation)
        if name in FACTORS:
            return self._multiplies(operation)
        if name == "div" and self._is_from_picture(operation.args[1]):
            return False
        if name in COPIES:
            self._copies(operation)
        return name in self._harmless

    @property
    def _function(self) -> str:
        """The function of torch that is being called, if any."""
        calls, place = self._trace.calls, self._place
        return calls[place.call].function if place.seen and place.call < len(calls) else ""

    def _makes_gate(self, operation: _Operation) -> bool:
        for gate in leaves(Tensor, operation.out):
            source = self._origin(operation.taken[0])
            self._gates[_memory(gate)] = _Gate(GATES[operation.name], self._place, source)
        return True

    def _copies(self, operation: _Operation) -> None:
        """What it gives is the same as what it takes, but for a scale."""
        origin = self._origin(operation.taken[0])
        self._origins.update({_memory(copy): origin for copy in leaves(Tensor, operation.out)})

    def _origin(self, tensor: Tensor) -> int:
        """The memory that a tensor is a copy of, or its own."""
        memory = _memory(tensor)
        return self._origins.get(memory, memory)

    def _multiplies(self, operation: _Operation) -> bool:
        """Good with a constant, or with a gate that is not made of what goes through it (SiLU)."""
        positions, args = FACTORS[operation.name], operation.args
        factors = [args[n] for n in positions if n < len(args) and self._is_from_picture(args[n])]
        if len(factors) < 2:
            if operation.name == "mul":
                self._copies(operation)
            return True
        gates = [self._gates.get(self._origin(factor)) for factor in factors]
        match gates:
            case [_Gate() as gate, None]:
                other = factors[1]
            case [None, _Gate() as gate]:
                other = factors[0]
            case _:
                return False
        if operation.name != "mul":
            return False
        if gate.used_in is None:
            gate.used_in = self._place.call
        return gate.source != self._origin(other)


def _memory(tensor: Tensor) -> int:
    """The identity of a tensor's memory."""
    return tensor.untyped_storage()._cdata  # pyright: ignore[reportPrivateUsage]
