"""What a method asks of the network, and what comes back."""

from collections.abc import Callable, Generator, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias, TypeVar, cast

import torch
from torch import Tensor

from convlens.contract import Failure
from convlens.workers.anatomy import INPUT
from convlens.workers.body import Body
from convlens.workers.incremental import Course, Rows
from convlens.workers.incremental.clean import Clean
from convlens.workers.rectifiers import Rule

R = TypeVar("R")


class Patched(Protocol):
    """Points that differ from clean pictures in patches, as a course needs them."""

    def clean(self) -> Clean:
        """What the network computes for the clean picture."""
        ...

    def seen(self, rows: slice, /) -> Rows:
        """The windows that some of the points are about, as the course counts them."""
        ...

    def give_up(self, reason: str, /) -> None:
        """Told that some of the points are computed by whole passes, and why."""
        ...

    def patches(self, windows: Rows, /) -> Tensor:
        """What is changed [n, channels, height, width], on the device."""
        ...


class Points(Protocol):
    """Where the network is to be computed: [n, channels, height, width] in [0, 1].

    A tensor is one. What would be large is made when it is asked for: the same rows each time. It
    can be hashed; equal ones are computed once.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, rows: slice, /) -> Tensor: ...


def name_of(points: Points) -> Hashable:
    """Equal for points that are the same, as long as they live; a tensor is its memory."""
    if isinstance(points, Tensor):
        return points.data_ptr(), points.shape, points.stride(), points.dtype
    return points


@dataclass(frozen=True, slots=True)
class Outputs:
    """What a forward pass gave for some points: scores [n, classes], and layers by their call.

    Scores of a variant may have more axes, as for every place of a larger picture.

    There are no scores [n, 0] where the pass ended before them.
    """

    scores: Tensor
    captured: Mapping[int, Tensor]


# One value for each point [n]; the gradient is that of each point's own value. It can be hashed;
# equal ones share their gradient.
Objective: TypeAlias = Callable[[Outputs], Tensor]


@dataclass(frozen=True, slots=True)
class Answer:
    """What the network says at some points, in their order, on its device.

    `values` [n] and `gradients`, by what they are by, are there where an objective was given.
    """

    scores: Tensor
    captured: Mapping[int, Tensor]
    values: Tensor | None = None
    gradients: Mapping[int, Tensor] = field(default_factory=dict[int, Tensor])

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def worth(self) -> Tensor:
        """The values, where an objective was given."""
        assert self.values is not None, "the pass had no objective"
        return self.values

    @property
    def slope(self) -> Tensor:
        """The gradient by the pixels [n, channels, height, width], where it was asked for."""
        return self.gradients[INPUT]

    @staticmethod
    def joined(parts: "list[Answer]") -> "Answer":
        """The answers for the parts of one pass, as one."""
        if len(parts) == 1:
            return parts[0]
        values = [part.values for part in parts if part.values is not None]
        return Answer(
            torch.cat([part.scores for part in parts]),
            _joined([part.captured for part in parts]),
            torch.cat(values) if values else None,
            _joined([part.gradients for part in parts]),
        )


def _joined(parts: list[Mapping[int, Tensor]]) -> dict[int, Tensor]:
    return {call: torch.cat([part[call] for part in parts]) for call in parts[0]}


@dataclass(frozen=True, slots=True)
class Kind:
    """What passes must agree in to be computed together."""

    #: What there are gradients by: calls, or INPUT for the pixels.
    by: tuple[int, ...]
    capture: tuple[int, ...]
    rule: Rule | None
    stops: bool
    body: Body | None
    course: Course | None = None

    @property
    def gradient(self) -> bool:
        """Whether anything goes back through the network."""
        return bool(self.by)


@dataclass(frozen=True, slots=True, eq=False)
class Pass:
    """Asks for scores at `points`, for layers to `capture`, and for the gradient of `objective`.

    Layers are given by their call in the network's trace. The gradient is `by` the pixels, or by
    layers. `rule` says how rectifiers let it through. A pass that `stops` ends after the deepest of
    its layers and has no scores. `body` runs in place of the network. With a `course`, what the
    points, which are Patched, change of a picture is computed alone.

    With `each`, the answer is handed over part by part, in the order of the points, and nothing of
    it is kept: what the yield gives is then the last part alone. `so_far` gives what the method
    would return if it ended now, or None as long as that is nothing.
    """

    points: Points
    objective: Objective | None = None
    capture: tuple[int, ...] = ()
    by: tuple[int, ...] = (INPUT,)
    rule: Rule | None = None
    stops: bool = False
    body: Body | None = None
    course: Course | None = None
    each: Callable[[Answer], None] | None = None
    so_far: Callable[[], object] | None = None
    kind: Kind = field(init=False)

    def __post_init__(self) -> None:
        if not len(self.points):
            raise ValueError("a pass needs points")
        if self.stops and not self.capture:
            raise ValueError("a pass that stops needs a layer to stop at")
        by = () if self.objective is None else tuple(sorted(set(self.by)))
        capture = tuple(sorted(set(self.capture)))
        kind = Kind(by, capture, self.rule, self.stops, self.body, self.course)
        object.__setattr__(self, "kind", kind)


@dataclass(frozen=True, slots=True, eq=False)
class Fork:
    """Asks for other methods to be at work side by side; see `side_by_side`."""

    branches: Sequence["Steps[Any]"]


# A method at work on one item: it yields passes, gets their answers, and returns its result.
Steps: TypeAlias = Generator[Pass | Fork, Answer, R]


def side_by_side(branches: Sequence[Steps[R]]) -> Steps[list[R | Failure]]:
    """What comes of several methods, in their order, whose passes are computed together."""
    if not branches:
        return []
    found = yield Fork(branches)
    return cast("list[R | Failure]", found)
