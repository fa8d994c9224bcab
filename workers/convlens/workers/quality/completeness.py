"""Completeness: what the attributions miss of the difference in score."""

import torch
from torch import Tensor

from convlens.workers.runner import Pass, Steps


def completeness(x: Tensor, map_: Tensor, target: int, baseline: Tensor) -> Steps[float]:
    """The sum of the attributions less S(x) - S(baseline), in units of the score S of the target.

    x and the baseline are [channels, height, width]. Sundararajan et al. 2017, arXiv:1703.01365,
    section 3.
    """
    answer = yield Pass(torch.stack([x, baseline]))
    at_x, at_baseline = answer.scores[:, target]
    return missed(map_, float(at_x), float(at_baseline))


def missed(map_: Tensor, score: float, baseline_score: float) -> float:
    """The same, where the scores are known already."""
    return float(map_.double().sum()) - (score - baseline_score)
