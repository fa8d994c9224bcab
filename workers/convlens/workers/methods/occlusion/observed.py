"""What is seen while windows are covered, and the maps that it makes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from convlens.contract.geometry import audited_count
from convlens.workers.methods.occlusion.grid import Grid
from convlens.workers.methods.occlusion.sweep import Sweep
from convlens.workers.runner import Answer


@dataclass(frozen=True)
class OcclusionResult:
    """How the score falls [height, width]: the mean over the windows that cover a pixel.

    The other maps have one number for each window [rows, columns]: the probability of the target,
    the class that is predicted, and the total activation of the watched map, if any. Those of a
    window that was not computed are NaN and -1. Centres are of windows as they are cut, in pixels
    from the upper left corner. `refinement` is the largest change that the windows between the
    coarse ones made; None where the map is exact, or is still that of the coarse ones.
    `approximation` is the largest error of a score at windows that were computed exactly too; None
    where all were.
    """

    map: Tensor
    probability: Tensor
    predicted_class: Tensor
    activation: Tensor | None
    watched_map_index: int | None
    clean_activation: float | None
    window: int
    stride: int
    center_rows: tuple[float, ...]
    center_columns: tuple[float, ...]
    windows: int
    windows_saved: int
    refinement: float | None
    approximation: float | None
    full_passes_reason: str


@dataclass(frozen=True)
class Watched:
    """A layer by its call, and the axes of its maps from the last; None where it is a vector."""

    call: int
    axes: tuple[int, int] | None

    def totals(self, answer: Answer) -> Tensor:
        """The total activation of each map [n, maps]."""
        values = answer.captured[self.call]
        if self.axes is not None:
            values = values.sum(dim=self.axes, dtype=torch.float64)
        return values.flatten(1).double().cpu()


class Observed:
    """The answers for the windows of a grid that were covered so far, beside the clean one.

    Of the watched layer, the map is followed that is strongest in the clean picture.
    """

    def __init__(
        self,
        grid: Grid,
        target: int,
        clean: Answer,
        watched: Watched | None,
        sweep: Sweep,
    ) -> None:
        self._sweep = sweep
        self._approximation: float | None = None
        self._grid = grid
        self._target = target
        self._clean = float(clean.scores[0, target])
        self._watched = watched
        self._totals = watched.totals(clean)[0] if watched else torch.zeros(1)
        self._strongest = int(self._totals.argmax())
        self._coarse = grid.coarse()
        self._seen = torch.zeros(grid.shape, dtype=torch.bool)
        self._scores = torch.full(grid.shape, torch.nan, dtype=torch.float64)
        self._probability, self._activation = self._scores.clone(), self._scores.clone()
        self._predicted = torch.full(grid.shape, -1)
        #: Windows that are not going to be computed.
        self.saved = 0

    def take(self, windows: Sequence[int], answer: Answer) -> None:
        """Notes the answers for some windows, by number."""
        where = torch.tensor(windows)
        scores = answer.scores.double().cpu()
        self._seen.view(-1)[where] = True
        self._scores.view(-1)[where] = scores[:, self._target]
        self._probability.view(-1)[where] = scores.softmax(dim=1)[:, self._target]
        self._predicted.view(-1)[where] = scores.argmax(dim=1)
        if self._watched:
            self._activation.view(-1)[where] = self._watched.totals(answer)[:, self._strongest]

    @property
    def is_approximate(self) -> bool:
        """Whether less is computed than what the windows change."""
        return self._sweep.is_approximate

    def audited(self) -> list[int]:
        """Windows that were covered, evenly spread, whose exact answers say how far others are."""
        windows = self._seen.flatten().nonzero().flatten()
        places = torch.linspace(0, len(windows) - 1, audited_count(len(windows))).round().long()
        return cast("list[int]", windows[places].tolist())

    def audit(self, windows: Sequence[int], exact: Answer) -> None:
        """Compares what was found for windows, by number, with the exact answers."""
        found = self._scores.view(-1)[torch.tensor(windows)]
        apart = (found - exact.scores[:, self._target].double().cpu()).abs()
        self._approximation = float(apart.max())

    def map(self, seen: Tensor) -> Tensor:
        """How the score falls [height, width], from those of the windows [rows, columns]."""
        return self._grid.averaged(self._clean - self._scores, seen)

    def so_far(self) -> OcclusionResult | None:
        """The result by now, once every pixel was covered."""
        return self.result() if bool(self._seen[self._coarse].all()) else None

    def result(self) -> OcclusionResult:
        """What the windows show that were covered."""
        grid, seen, watched = self._grid, self._seen, self._watched
        found = self.map(seen)
        refined = int(self._coarse.sum()) < int(seen.sum()) < len(grid)
        return OcclusionResult(
            map=found,
            probability=self._probability.clone(),
            predicted_class=self._predicted.clone(),
            activation=self._activation.clone() if watched else None,
            watched_map_index=self._strongest if watched else None,
            clean_activation=float(self._totals[self._strongest]) if watched else None,
            window=grid.window,
            stride=grid.stride,
            center_rows=tuple((span.start + span.stop) / 2 for span in grid.rows),
            center_columns=tuple((span.start + span.stop) / 2 for span in grid.columns),
            windows=int(seen.sum()),
            windows_saved=self.saved,
            refinement=float((found - self.map(self._coarse)).abs().max()) if refined else None,
            approximation=self._approximation,
            full_passes_reason=self._sweep.full_passes_reason,
        )
