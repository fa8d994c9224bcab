"""Occlusion as a method: one sweep over the picture, the coarse windows first."""

from contextlib import closing
from typing import cast

import torch
from torch import Tensor

from convlens.v1 import explanation_methods_pb2 as methods
from convlens.workers.incremental import FullPasses, Plan
from convlens.workers.methods.occlusion.grid import Grid
from convlens.workers.methods.occlusion.observed import Observed, OcclusionResult, Watched
from convlens.workers.methods.occlusion.sweep import Sweep
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
    way: Plan | FullPasses,
) -> Steps[OcclusionResult]:
    """Covers x [channels, height, width] by `fill`, of the same shape, window by window.

    A few windows that cover the picture come first; an adaptive sweep then computes only those of
    the others that lie where the map is strongest. Of the layer `call`, if any, the strongest map
    is watched; its maps lie along `axes` from the last, None for a vector. `way` is how the windows
    of its grid go through the network. Zeiler & Fergus 2013, arXiv:1311.2901, section 4.2.
    """
    capture = () if call is None else (call,)
    clean = yield Pass(x[None], capture=capture)
    grid = Grid(x.shape[1], x.shape[2], p.window, p.stride)
    watched = None if call is None else Watched(call, axes)
    with closing(Sweep(x, fill, grid, capture, way)) as sweep:
        observed = Observed(grid, target, clean, watched, sweep)
        coarse = grid.coarse()
        first, others = _numbers(coarse), _numbers(~coarse)
        yield from sweep.over(0, first, observed.take, observed.so_far)
        if p.adaptive:
            chosen = _numbers(~coarse & grid.covering(_strong(observed.map(coarse))))
            observed.saved = len(others) - len(chosen)
            others = chosen
        if others:
            yield from sweep.over(1, others, observed.take, observed.so_far)
        if observed.is_approximate:
            windows = observed.audited()
            observed.audit(windows, (yield Pass(sweep.whole(windows))))
        return observed.result()


def _numbers(chosen: Tensor) -> list[int]:
    """The numbers of the windows [rows, columns] that are chosen."""
    return cast("list[int]", chosen.flatten().nonzero().flatten().tolist())


def _strong(found: Tensor) -> Tensor:
    """Where a map is in its strongest part, whatever its sign."""
    strengths = found.abs()
    return (strengths >= torch.quantile(strengths, 1 - STRONGEST)) & (strengths > 0)
