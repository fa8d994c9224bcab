"""What can be computed with: a served network, or what a method made of it."""

from typing import Protocol

import torch
from torch import Tensor, nn

from convlens.workers.anatomy import Trace


class Body(Protocol):
    """What a pass runs through: the served network, or a variant that a method made of it.

    It can be hashed, and referred to weakly; equal ones share their micro-batches.
    """

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        ...

    @property
    def module(self) -> nn.Module:
        """What makes the calls of the trace."""
        ...

    @property
    def trace(self) -> Trace:
        """Its calls, at the size of its input."""
        ...

    def place(self, pixels: Tensor) -> Tensor:
        """A copy of pixels on the device, in the layout in which it computes."""
        ...

    def scores(self, pixels: Tensor) -> Tensor:
        """Scores before the softmax [n, ...], with their graph."""
        ...
