"""A forward pass of a network with each of its calls in somebody else's hands."""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from convlens.workers.anatomy import Call, Trace, Unsteady
from convlens.workers.anatomy.names import gives_tensors, plain_name


class Counting(TorchFunctionMode):
    """Counts the calls of a forward pass, and has each of them made by `make`.

    A mode belongs to its thread: others that run the same module see nothing of it.
    """

    def __init__(self, trace: Trace) -> None:
        super().__init__()
        self._calls = trace.calls
        self._count = 0

    @abstractmethod
    def make(
        self, call: Call, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """What a call gives."""

    def run(self, module: nn.Module, pixels: Tensor) -> Tensor:
        """Runs the module; raises Unsteady where it makes other calls than when it was traced."""
        with self:
            output: Tensor = module(pixels)
        if self._count != len(self._calls):
            raise Unsteady(f"{self._count} calls were made, not {len(self._calls)}")
        return output

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = dict(kwargs or {})
        call = self._calls[self._count] if self._count < len(self._calls) else None
        if call and plain_name(func) == call.function:
            out = self.make(call, func, args, given)
            self._count += 1
            return out
        out = func(*args, **given)
        if gives_tensors(func, out):
            known = call.function if call else "none"
            raise Unsteady(f"call {self._count} is {plain_name(func)}, not {known}")
        return out
