"""What an earlier call left, to go on from there; a stranger may have written it."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from convlens.contract.validation import Violation, invalid


@dataclass(frozen=True, slots=True, eq=False)
class Memory:
    """The state of a method as its `Growth` told it, by name; each value is checked when taken."""

    state: Mapping[str, Tensor]

    def take(
        self, name: str, like: Tensor, low: float = float("-inf"), high: float = float("inf")
    ) -> Tensor:
        """A copy of a tensor that is shaped and stored as `like`, finite and within the bounds.

        Raises Failure INVALID_REQUEST where it is not what the method wrote.
        """
        found = self.state.get(name)
        if found is None or found.shape != like.shape or found.dtype != like.dtype:
            raise broken()
        numbers = torch.view_as_real(found) if found.is_complex() else found
        if numbers.numel() and not (
            bool(numbers.isfinite().all())
            and low <= float(numbers.min())
            and float(numbers.max()) <= high
        ):
            raise broken()
        return found.to(like.device, copy=True)

    def whole(self, name: str, low: int, high: int) -> int:
        """A whole number from `low` to `high`, written as int64 []; raises as `take`."""
        return int(self.take(name, torch.zeros((), dtype=torch.int64), low, high))

    def bytes(self, name: str, most: int) -> bytes:
        """At most so many bytes, which a method wrote as uint8; raises as `take`."""
        found = self.state.get(name)
        if found is None or found.dtype != torch.uint8 or found.ndim != 1 or len(found) > most:
            raise broken()
        return found.cpu().numpy().tobytes()


def broken() -> Exception:
    """What a caller is told whose checkpoint is none of this question's."""
    words = "is damaged; send the checkpoint of an answer as it came, or none to begin anew"
    return invalid([Violation(field="checkpoint", description=words)])
