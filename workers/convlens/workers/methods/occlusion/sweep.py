"""What the network says while each window is covered in turn."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from convlens.workers.incremental import Course, Covering, FullPasses, Group, Plan, Rows
from convlens.workers.incremental.clean import Clean
from convlens.workers.methods.occlusion.grid import Grid
from convlens.workers.runner import Answer, Pass, Steps


@dataclass(frozen=True)
class Occluded:
    """Copies of x, each with one window of `fill` over it."""

    x: Tensor
    fill: Tensor
    grid: Grid
    windows: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, rows: slice, /) -> Tensor:
        numbers = self.windows[rows]
        copies = self.x.repeat(len(numbers), 1, 1, 1)
        for copy, number in zip(copies, numbers, strict=True):
            down, across = self.grid.place(number)
            copy[:, down, across] = self.fill[:, down, across]
        return copies


@dataclass(frozen=True)
class Patches(Occluded):
    """The same by what the windows change, for a group of them."""

    group: Group
    # Equal ones cover the same picture.
    covering: Covering = field(compare=False)

    def clean(self) -> Clean:
        """What the network computes for x."""
        return self.covering.clean()

    def seen(self, rows: slice, /) -> Rows:
        """The windows of some rows, by their numbers in the group."""
        numbers = np.array(self.windows[rows], dtype=np.int64)
        row, column = np.divmod(numbers, self.grid.shape[1])
        lot = self.group.lot
        return Rows(np.searchsorted(lot.rows, row), np.searchsorted(lot.columns, column))

    def give_up(self, reason: str, /) -> None:
        """Notes why some windows are whole passes."""
        self.covering.obstacle = reason

    def patches(self, windows: Rows, /) -> Tensor:
        """What is changed of x [n, channels, height, width]."""
        return self.covering.patches(self.group.course.start, windows)


class Sweep:
    """Covers x [channels, height, width] by `fill`, alike, window by window of a grid.

    Of each answer there are scores and the layers of `capture`. `way` says how windows go through
    the network. To be closed at the end.
    """

    def __init__(
        self,
        x: Tensor,
        fill: Tensor,
        grid: Grid,
        capture: tuple[int, ...],
        way: Plan | FullPasses,
    ) -> None:
        self._x = x
        self._fill = fill
        self._grid = grid
        self._capture = capture
        self._way = way
        self._covering = way.covering(x, fill) if isinstance(way, Plan) else None

    @property
    def is_approximate(self) -> bool:
        """Whether less is computed than what the windows change."""
        return isinstance(self._way, Plan) and self._way.threshold < 1

    @property
    def full_passes_reason(self) -> str:
        """Why there were whole passes, for some of the windows at least; empty without."""
        if isinstance(self._way, FullPasses):
            return self._way.reason
        return self._covering.obstacle if self._covering else ""

    def close(self) -> None:
        """Lets go of what was computed for the picture."""
        if self._covering:
            self._covering.close()

    def over(
        self,
        lot: int,
        windows: Sequence[int],
        take: Callable[[Sequence[int], Answer], None],
        so_far: Callable[[], object],
    ) -> Steps[None]:
        """Covers each of some windows of a lot, by number.

        `take` gets the answers in parts, each with the numbers of its windows. `so_far` is that of
        a pass.
        """
        for points, course in self._parts(lot, windows):
            yield self._pass(points, course, take, so_far)

    def _parts(self, lot: int, windows: Sequence[int]) -> Iterator[tuple[Occluded, Course | None]]:
        """The windows of each group, or all of them in whole passes."""
        if not isinstance(self._way, Plan) or self._covering is None:
            yield self.whole(windows), None
            return
        found: dict[int, list[int]] = {}
        for number in windows:
            group = self._way.group(lot, *divmod(number, self._grid.shape[1]))
            found.setdefault(group, []).append(number)
        for n, chosen in found.items():
            group = self._way.lots[lot][n]
            seen = self._x, self._fill, self._grid, tuple(chosen)
            yield Patches(*seen, group, self._covering), group.course

    def whole(self, windows: Sequence[int]) -> Occluded:
        """Copies of x with the windows, by number."""
        return Occluded(self._x, self._fill, self._grid, tuple(windows))

    def _pass(
        self,
        points: Occluded,
        course: Course | None,
        take: Callable[[Sequence[int], Answer], None],
        so_far: Callable[[], object],
    ) -> Pass:
        done = 0

        def each(answer: Answer) -> None:
            nonlocal done
            take(points.windows[done : done + len(answer)], answer)
            done += len(answer)

        return Pass(points, capture=self._capture, course=course, each=each, so_far=so_far)
