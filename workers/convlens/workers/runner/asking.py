"""What a method asks of the network, and what comes back."""

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias, TypeVar

import torch
from torch import Tensor

R = TypeVar("R")


class Points(Protocol):
    """Where the network is to be computed: [n, channels, height, width] in [0, 1].

    A tensor is one. What would be large is made when it is asked for: the same rows each time.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, rows: slice, /) -> Tensor: ...


@dataclass(frozen=True, slots=True)
class Outputs:
    """What a forward pass gave for some points: scores [n, classes], and layers by their call."""

    scores: Tensor
    captured: Mapping[int, Tensor]


# One value for each point [n]; the gradient is that of each point's own value.
Objective: TypeAlias = Callable[[Outputs], Tensor]


@dataclass(frozen=True, slots=True)
class Answer:
    """What the network says at some points, in their order, on its device.

    `values` [n] and `gradient` [n, channels, height, width] are there where an objective was given.
    """

    scores: Tensor
    captured: Mapping[int, Tensor]
    values: Tensor | None = None
    gradient: Tensor | None = None

    @property
    def worth(self) -> Tensor:
        """The values, where an objective was given."""
        assert self.values is not None, "the pass had no objective"
        return self.values

    @property
    def slope(self) -> Tensor:
        """The gradient, where an objective was given."""
        assert self.gradient is not None, "the pass had no objective"
        return self.gradient

    @staticmethod
    def joined(parts: "list[Answer]") -> "Answer":
        """The answers for the parts of one pass, as one."""
        if len(parts) == 1:
            return parts[0]
        return Answer(
            torch.cat([part.scores for part in parts]),
            {
                call: torch.cat([part.captured[call] for part in parts])
                for call in parts[0].captured
            },
            _joined([part.values for part in parts]),
            _joined([part.gradient for part in parts]),
        )


def _joined(parts: list[Tensor | None]) -> Tensor | None:
    there = [part for part in parts if part is not None]
    return torch.cat(there) if there else None


@dataclass(frozen=True, slots=True)
class Kind:
    """What passes must agree in to be computed together."""

    gradient: bool
    capture: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Pass:
    """Asks for scores at `points`, for layers to `capture`, and for the gradient of `objective`.

    With `each`, the answer is handed over part by part, in the order of the points, and nothing of
    it is kept: what the yield gives is then the last part alone.
    """

    points: Points
    objective: Objective | None = None
    capture: tuple[int, ...] = ()
    each: Callable[[Answer], None] | None = None
    kind: Kind = field(init=False)

    def __post_init__(self) -> None:
        if not len(self.points):
            raise ValueError("a pass needs points")
        kind = Kind(self.objective is not None, tuple(sorted(set(self.capture))))
        object.__setattr__(self, "kind", kind)


# A method at work on one item: it yields passes, gets their answers, and returns its result.
Steps: TypeAlias = Generator[Pass, Answer, R]
