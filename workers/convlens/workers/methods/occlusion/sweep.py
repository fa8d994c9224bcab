"""What the network says while each window is covered in turn: whole forward passes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from convlens.workers.methods.occlusion.grid import Grid
from convlens.workers.runner import Answer, Pass, Steps

# Said to callers as long as no engine computes only what a window changes.
FULL_PASSES_REASON = "each window is computed by a whole forward pass"


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


def sweep(
    x: Tensor,
    fill: Tensor,
    grid: Grid,
    windows: Sequence[int],
    capture: tuple[int, ...],
    take: Callable[[Sequence[int], Answer], None],
    so_far: Callable[[], object],
) -> Steps[None]:
    """Covers x [channels, height, width] by `fill`, alike, at each of the windows, by number.

    `take` gets the answers in parts, each with the numbers of its windows, in their order. What an
    answer has are scores and the layers of `capture`. `so_far` is that of a pass.
    """
    done = 0

    def each(answer: Answer) -> None:
        nonlocal done
        take(windows[done : done + len(answer)], answer)
        done += len(answer)

    yield Pass(Occluded(x, fill, grid, tuple(windows)), capture=capture, each=each, so_far=so_far)
