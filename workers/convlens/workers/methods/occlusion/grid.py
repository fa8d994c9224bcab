"""The windows that slide over a picture."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from convlens.contract.geometry import windows_along
from convlens.workers.incremental import Lot


class Grid:
    """Square windows of side `window`, `stride` pixels apart, over a picture of height x width.

    `rows` and `columns` are the pixels of each along one axis, cut at the border. A window is named
    by its number, row by row.
    """

    def __init__(self, height: int, width: int, window: int, stride: int) -> None:
        self.window, self.stride = window, stride
        self.rows = _spans(height, window, stride)
        self.columns = _spans(width, window, stride)
        self.shape = len(self.rows), len(self.columns)
        self._spans = tuple(self.rows), tuple(self.columns)
        #: Those of the few windows that cover every pixel, and those of all.
        step = window // stride
        self.lots = (
            Lot(*(_every(step, count) for count in self.shape)),
            Lot(*(tuple(range(count)) for count in self.shape)),
        )
        self._vertical = _cover(self.rows, height)
        self._horizontal = _cover(self.columns, width)

    def __len__(self) -> int:
        return len(self.rows) * len(self.columns)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Grid) and self._spans == other._spans

    def __hash__(self) -> int:
        return hash(self._spans)

    def place(self, number: int) -> tuple[slice, slice]:
        """The rows and columns of pixels that a window covers."""
        row, column = divmod(number, len(self.columns))
        (top, bottom), (left, right) = (
            (span.start, span.stop) for span in (self.rows[row], self.columns[column])
        )
        return slice(top, bottom), slice(left, right)

    def coarse(self) -> Tensor:
        """Whether each window [rows, columns] is one of the few that cover every pixel."""
        chosen = torch.zeros(self.shape, dtype=torch.bool)
        chosen[np.ix_(self.lots[0].rows, self.lots[0].columns)] = True
        return chosen

    def covering(self, pixels: Tensor) -> Tensor:
        """Whether each window [rows, columns] covers any of the pixels [height, width]."""
        return self._vertical @ pixels.double() @ self._horizontal.T > 0

    def averaged(self, values: Tensor, seen: Tensor) -> Tensor:
        """For each pixel [height, width] the mean over the windows that cover it and were seen.

        `values` and `seen` are [rows, columns]; those that were seen must cover every pixel.
        """
        total = self._vertical.T @ values.where(seen, torch.zeros_like(values)) @ self._horizontal
        return total / (self._vertical.T @ seen.double() @ self._horizontal)


def _spans(size: int, window: int, stride: int) -> list[range]:
    starts = (number * stride for number in range(windows_along(size, window, stride)))
    return [range(start, min(start + window, size)) for start in starts]


def _cover(spans: Sequence[range], size: int) -> Tensor:
    """1 where a window [windows, pixels] covers a pixel along one axis."""
    cover = torch.zeros(len(spans), size, dtype=torch.float64)
    for line, span in zip(cover, spans, strict=True):
        line[span.start : span.stop] = 1
    return cover


def _every(step: int, count: int) -> tuple[int, ...]:
    """Every so many of them, from the first on, and the last."""
    return tuple(dict.fromkeys((*range(0, count, step), count - 1)))
