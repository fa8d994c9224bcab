"""Model randomisation: whether a map depends on what the network has learned."""

import math
from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor

from convlens.contract import Failure
from convlens.workers.body import Body
from convlens.workers.runner import Answer, Pass, Steps, side_by_side
from convlens.workers.runner.asking import Fork

R = TypeVar("R")


def model_randomization(map_: Tensor, redrawn: Steps[Tensor]) -> Steps[float]:
    """Spearman's rank correlation of |map| with |map'|, which is that of a network redrawn.

    `redrawn` is the method at work on the same picture and class `through` such a network. Absolute
    values are compared, all of them, as in the paper's figures: without them, edges that turn their
    signs would seem to be another map. NaN where a value of the new map is not finite. Adebayo et
    al. 2018, arXiv:1810.03292, section 3.2.
    """
    [found] = yield from side_by_side([redrawn])
    if isinstance(found, Failure):
        raise found
    if not bool(found.isfinite().all()):
        return math.nan
    return rank_correlation(map_.abs(), found.abs())


def through(steps: Steps[R], body: Body) -> Steps[R]:
    """A method whose passes, and those of its branches, run `body` in place of the network."""
    answer: Answer | None = None
    try:
        while True:
            # What is sent first starts a generator, and must be None.
            wanted = steps.send(answer)  # pyright: ignore[reportArgumentType]
            answer = yield _moved(wanted, body)
    except StopIteration as end:
        return end.value
    finally:
        steps.close()


def _moved(wanted: Pass | Fork, body: Body) -> Pass | Fork:
    if isinstance(wanted, Fork):
        return replace(wanted, branches=[through(branch, body) for branch in wanted.branches])
    if wanted.body is not None:
        raise ValueError("the pass runs a body of its own already")
    return replace(wanted, body=body)


def rank_correlation(a: Tensor, b: Tensor) -> float:
    """Spearman's, in [-1, 1]; 0 where all values of one are the same."""
    pair = torch.stack([_ranks(a), _ranks(b)])
    if bool((pair.amin(dim=1) == pair.amax(dim=1)).any()):
        return 0.0
    return float(torch.corrcoef(pair)[0, 1])


def _ranks(values: Tensor) -> Tensor:
    """The rank of each value, from 1 for the smallest; equal ones have the mean of theirs."""
    values = values.flatten()
    ordered = values.sort().values
    below = torch.searchsorted(ordered, values)
    upto = torch.searchsorted(ordered, values, right=True)
    return (below + upto + 1).double() / 2
