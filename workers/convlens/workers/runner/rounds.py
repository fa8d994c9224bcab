"""How the passes that a job asks for at a time are cut into micro-batches.

What several items ask at the same points is computed once. Short passes come first, and do not
wait for the end of long ones.

The cut depends on the job alone, so the bits of its answers do not depend on company: what fills
`rows` rows is computed in that shape. What is left over is computed in a smaller one, as many as
there are, because a padded row costs as much as a real one. Or, where rows cost little, in a
micro-batch of `rows` that is shared with others and padded, whose shape is the same whoever is in
it.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from math import ceil
from typing import Any, TypeAlias

from torch import Tensor

from convlens.workers.runner.asking import Answer, Kind, Objective, Pass, Steps, name_of

# Names an item among those of its job, and says when its turn is.
Key: TypeAlias = tuple[int, ...]

# Gradients of so many objectives are taken after one forward pass, of the second number where half
# of its rows are enough; with more, a micro-batch would keep other jobs waiting for long.
MOST_OBJECTIVES, MOST_OF_FEW_ROWS = 8, 16


class Item:
    """One method at work for a job, its `owner`, and the pass or the branches that it waits for.

    A branch has a `parent`, the item that waits for it and for its siblings.
    """

    def __init__(
        self, owner: object, key: Key, steps: Steps[Any], parent: "Item | None" = None
    ) -> None:
        self.owner = owner
        self.key = key
        self.steps = steps
        self.parent = parent
        #: Nothing more is computed for it.
        self.over = False
        self._wanted: Pass | None = None
        self._parts: list[Answer] = []
        self._missing = 0
        self._outcomes: dict[Key, object] = {}

    @property
    def is_asking(self) -> bool:
        """Whether it waits for a pass, and not for branches."""
        return self._wanted is not None

    @property
    def so_far(self) -> Callable[[], Any] | None:
        """Gives what it would return if it ended now, or None; there where it waits for a pass."""
        return self._wanted.so_far if self._wanted else None

    def fork(self, branches: Sequence[Steps[Any]]) -> "list[Item]":
        """Waits for branches from now on, and gives them."""
        self._wanted, self._outcomes, self._missing = None, {}, len(branches)
        return [
            Item(self.owner, (*self.key, number), steps, self)
            for number, steps in enumerate(branches)
        ]

    def join(self, branch: "Item", outcome: object) -> list[object] | None:
        """Takes what came of a branch; what came of all of them where that was the last one."""
        self._outcomes[branch.key] = outcome
        if len(self._outcomes) < self._missing:
            return None
        return [self._outcomes[key] for key in sorted(self._outcomes)]

    @property
    def wanted(self) -> Pass:
        """The pass that it waits for."""
        assert self._wanted is not None
        return self._wanted

    def ask(self, wanted: Pass) -> None:
        """Waits for a pass from now on."""
        self._wanted, self._parts, self._missing = wanted, [], len(wanted.points)

    def take(self, part: Answer) -> Answer | None:
        """Takes the answer for its next points; the whole answer where that was the last part."""
        each = self.wanted.each
        if each is None:
            self._parts.append(part)
        else:
            each(part)
            self._parts = [part]
        self._missing -= len(part)
        return None if self._missing else Answer.joined(self._parts)


@dataclass(frozen=True, slots=True)
class Segment:
    """Some successive points that items of one job wait for, the same for each of them."""

    items: tuple[Item, ...]
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    @property
    def points(self) -> Tensor:
        """The points [n, channels, height, width]."""
        return self.items[0].wanted.points[self.start : self.stop]

    @property
    def objectives(self) -> Sequence[Objective | None]:
        """What is asked at them, each once."""
        return _objectives(self.items)

    def of(self, items: Iterable[Item]) -> "Segment | None":
        """The same points for those of its items that are among `items`."""
        chosen = {id(item) for item in items}
        kept = tuple(item for item in self.items if id(item) in chosen)
        return Segment(kept, self.start, self.stop) if kept else None


def _objectives(items: Iterable[Item]) -> list[Objective | None]:
    return list(dict.fromkeys(item.wanted.objective for item in items))


@dataclass(slots=True)
class MicroBatch:
    """Points that are computed together, in the shape of `rows` rows."""

    kind: Kind
    rows: int
    segments: list[Segment] = field(default_factory=list[Segment])

    @property
    def is_wanted(self) -> bool:
        """Whether any item still waits for it."""
        return any(not item.over for segment in self.segments for item in segment.items)

    @property
    def free(self) -> int:
        """Rows that nobody has asked for."""
        return self.rows - sum(map(len, self.segments))


def interleaved(some: Iterable[MicroBatch], others: Iterable[MicroBatch]) -> Iterator[MicroBatch]:
    """One of each in turn, then what is left."""
    pairs = zip_longest(some, others)
    return (batch for pair in pairs for batch in pair if batch is not None)


def cut(items: Sequence[Item], rows_of: Callable[[Kind], int], share: bool) -> Iterator[MicroBatch]:
    """The micro-batches for the passes that the items of one job wait for, kind by kind.

    `rows_of` says how many rows those of a kind have. `share` leaves one that is not full, which
    has room for others; else it has as many rows as are left over.
    """
    for kind in _kinds(items):
        rows = rows_of(kind)
        asked = [item for item in items if item.wanted.kind == kind]
        # Short passes first: whoever waits for a few points is not kept by one with thousands.
        asked.sort(key=lambda item: len(item.wanted.points))
        segments = _merged(asked, kind, rows, share)
        # A row goes back through the network as often as those beside it.
        for count in dict.fromkeys(len(each.objectives) for each in segments):
            alike = [each for each in segments if len(each.objectives) == count]
            for batch in filled(kind, rows, alike):
                yield batch if share else MicroBatch(kind, rows - batch.free, batch.segments)


def _kinds(items: Sequence[Item]) -> list[Kind]:
    """The kinds of passes that are waited for, those with the fewest points first."""
    points: dict[Kind, int] = {}
    for item in items:
        points[item.wanted.kind] = points.get(item.wanted.kind, 0) + len(item.wanted.points)
    return sorted(points, key=lambda kind: points[kind])


def _merged(items: Sequence[Item], kind: Kind, rows: int, share: bool) -> list[Segment]:
    """The points of items of one kind, those that are the same once.

    With `share`, a gradient of another objective has a row of its own: rows that go back through
    the network together cost less than rows that do so one after the other.
    """
    apart = share and kind.gradient
    found: dict[Hashable, list[Item]] = {}
    for item in items:
        wanted = item.wanted
        key = name_of(wanted.points), wanted.objective if apart else None
        found.setdefault(key, []).append(item)
    few = sum(
        len(same[0].wanted.points) * ceil(len(_objectives(same)) / MOST_OF_FEW_ROWS)
        for same in found.values()
    )
    most = MOST_OF_FEW_ROWS if 2 * few <= rows else MOST_OBJECTIVES
    size = most if kind.gradient else len(items)
    chunks = (chunk for same in found.values() for chunk in _chunks(same, size))
    return [Segment(chunk, 0, len(chunk[0].wanted.points)) for chunk in chunks]


def _chunks(items: Sequence[Item], size: int) -> Iterator[tuple[Item, ...]]:
    """Items at the same points, with so few objectives that they go back together."""
    objectives = _objectives(items)
    for start in range(0, len(objectives), size):
        chosen = set(objectives[start : start + size])
        yield tuple(item for item in items if item.wanted.objective in chosen)


def filled(kind: Kind, rows: int, segments: Iterable[Segment]) -> Iterator[MicroBatch]:
    """The points of the segments in micro-batches of `rows`, all full but the last."""
    batch = MicroBatch(kind, rows)
    for segment in segments:
        start = segment.start
        while start < segment.stop:
            stop = min(segment.stop, start + batch.free)
            batch.segments.append(Segment(segment.items, start, stop))
            start = stop
            if not batch.free:
                yield batch
                batch = MicroBatch(kind, rows)
    if batch.segments:
        yield batch
