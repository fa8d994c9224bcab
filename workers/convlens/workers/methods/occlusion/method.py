"""Occlusion as a method: one sweep over the picture, the coarse windows first."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from convlens.v1 import explanation_methods_pb2 as methods
from convlens.workers.methods.occlusion.grid import Grid
from convlens.workers.methods.occlusion.observed import Observed, OcclusionResult, Watched
from convlens.workers.methods.occlusion.sweep import sweep
from convlens.workers.runner import Pass, Steps

# An adaptive sweep is exact where the coarse map is in its strongest tenth.
STRONGEST = 0.1


def occlusion(
    x: Tensor,
    target: int,
    p: methods.Occlusion,
    fill: Tensor,
    call: int | None,
    axes: tuple[int, int] | None,
) -> Steps[OcclusionResult]:
    """Covers x [channels, height, width] by `fill`, of the same shape, window by window.

    A few windows that cover the picture come first; an adaptive sweep then computes only those of
    the others that lie where the map is strongest. Of the layer `call`, if any, the strongest map
    is watched; its maps lie along `axes` from the last, None for a vector. Zeiler & Fergus 2013,
    arXiv:1311.2901, section 4.2.
    """
    capture = () if call is None else (call,)
    clean = yield Pass(x[None], capture=capture)
    grid = Grid(x.shape[1], x.shape[2], p.window, p.stride)
    watched = None if call is None else Watched(call, axes)
    observed = Observed(grid, target, clean, watched)

    def look(windows: Sequence[int]) -> Steps[None]:
        return sweep(x, fill, grid, windows, capture, observed.take, observed.so_far)

    coarse = grid.coarse()
    first, others = _numbers(coarse), _numbers(~coarse)
    if not p.adaptive:
        yield from look(first + others)
        return observed.result()
    yield from look(first)
    chosen = _numbers(~coarse & grid.covering(_strong(observed.map(coarse))))
    observed.saved = len(others) - len(chosen)
    if chosen:
        yield from look(chosen)
    return observed.result()


def _numbers(chosen: Tensor) -> list[int]:
    """The numbers of the windows [rows, columns] that are chosen."""
    return cast("list[int]", chosen.flatten().nonzero().flatten().tolist())


def _strong(found: Tensor) -> Tensor:
    """Where a map is in its strongest part, whatever its sign."""
    strengths = found.abs()
    return (strengths >= torch.quantile(strengths, 1 - STRONGEST)) & (strengths > 0)
