"""Runs a network on pictures that are larger than its input, as a fully convolutional one."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from convlens.workers.anatomy import INPUT, Reading, Trace
from convlens.workers.anatomy.names import plain_name
from convlens.workers.anatomy.recorder import mapped
from convlens.workers.dense.seam import Seam


class Convolved(nn.Module):
    """A network at every place of a larger picture.

    What comes before the seam runs once over the whole picture. A fully connected layer that runs
    at every place over the window of the maps that it sees in the network's own input is a
    convolution with its weights; so the windows, each of that size, take the place of the maps, as
    pictures of a batch, and the network's own code goes on with them.

    Nothing is put on the network, which others may run meanwhile.
    """

    def __init__(self, network: nn.Module, trace: Trace, seam: Seam) -> None:
        super().__init__()
        self.network = network
        self._trace = trace
        self._seam = seam

    def forward(self, pixels: Tensor) -> Tensor:
        """Scores [n, classes, rows, columns] of pixels [n, channels, height, width]."""
        counts = grid(self._trace, self._seam, pixels.shape[-2], pixels.shape[-1])
        scores = Windows(self._trace, self._seam, counts).run(self.network, pixels)
        assert scores is not None
        return scores.view(len(pixels), *counts, -1).movedim(-1, 1)


def grid(trace: Trace, seam: Seam, height: int, width: int) -> tuple[int, int]:
    """Rows and columns of places at which the network's input lies within a picture."""
    sides = zip((height, width), trace.image[1:], seam.step, strict=True)
    rows, columns = ((side - own) // step + 1 for side, own, step in sides)
    return rows, columns


class Windows(Reading):
    """While it is entered, windows of the maps at the seam stand for the maps wherever they go."""

    def __init__(self, trace: Trace, seam: Seam, counts: tuple[int, int]) -> None:
        super().__init__(trace, {}, stop=False)
        self._seam = seam
        self._counts = counts
        self._maps: Tensor | None = None
        self._kept: Tensor | None = None

    def run(self, module: nn.Module, pixels: Tensor) -> Tensor | None:
        """As Reading does; gives scores [n * rows * columns, classes]."""
        if self._seam.maps == INPUT:
            self._maps = pixels
        return super().run(module, pixels)

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if self._maps is not None:
            change = self._change(self._is_average(func))
            args, kwargs = mapped(change, (args, dict(kwargs or {})))
        out = super().__torch_function__(func, types, args, kwargs)
        if self._maps is None and self._count > self._seam.maps:
            self._maps = out
        return out

    def _is_average(self, func: Callable[..., Any]) -> bool:
        """Whether a call is one of those that take the mean over each whole map.

        Other functions may come before it that give no tensor, and are not counted.
        """
        known = self._calls[self._count].function if self._count < len(self._calls) else ""
        return self._count in self._seam.averages and plain_name(func) == known

    def _change(self, average: bool) -> Callable[[object], object]:
        """What stands for an argument of a call; the mode is off here, so nothing is counted."""

        def change(leaf: object) -> object:
            if leaf is not self._maps or self._maps is None:
                return leaf
            return self._averages(self._maps) if average else self._windows(self._maps)

        return change

    def _averages(self, maps: Tensor) -> Tensor:
        """The mean over each window [n * rows * columns, maps, 1, 1], of which it is the mean."""
        means = F.avg_pool2d(self._trimmed(maps), self._seam.shape[1:], 1)
        return means.permute(0, 2, 3, 1).flatten(0, 2)[..., None, None]

    def _windows(self, maps: Tensor) -> Tensor:
        """The windows [n * rows * columns, maps, height, width], those of an image together."""
        if self._kept is None:
            _, height, width = self._seam.shape
            windows = self._trimmed(maps).unfold(2, height, 1).unfold(3, width, 1)
            self._kept = windows.permute(0, 2, 3, 1, 4, 5).flatten(0, 2)
        return self._kept

    def _trimmed(self, maps: Tensor) -> Tensor:
        """Without units whose windows reach beyond the picture."""
        (_, height, width), (rows, columns) = self._seam.shape, self._counts
        return maps[..., : height + rows - 1, : width + columns - 1]
