"""Integrated Gradients: what each pixel adds to the score on the way from a baseline."""

from dataclasses import dataclass

import torch
from torch import Tensor

from convlens.v1 import explanation_methods_pb2 as methods
from convlens.workers.methods.reductions import reduced
from convlens.workers.runner import Answer, Objective, Pass, Steps


@dataclass(frozen=True)
class IntegratedGradientsResult:
    """The map, the scores at both ends, the midpoints used, and what the map misses in sum."""

    map: Tensor
    score: float
    baseline_score: float
    steps: int
    error: float
    converged: bool


@dataclass(frozen=True)
class Line:
    """Points between the baseline, at 0, and x, at 1."""

    baseline: Tensor
    x: Tensor
    places: tuple[float, ...]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, rows: slice, /) -> Tensor:
        places = torch.tensor(self.places[rows], dtype=self.x.dtype, device=self.x.device)
        return torch.lerp(self.baseline, self.x, places.view(-1, 1, 1, 1))


def integrated_gradients(
    x: Tensor, baseline: Tensor, score: Objective, p: methods.IntegratedGradients
) -> Steps[IntegratedGradientsResult]:
    """Gradients along the straight line from `baseline` to x [channels, height, width].

    The integral is a midpoint rule. Three times as many midpoints have those before among them, so
    the steps are tripled, and nothing is computed twice, until the attributions add up to the
    difference in score within the tolerance. Sundararajan et al. 2017, arXiv:1703.01365, section 3.
    """
    # One after the other, since the score of the picture itself may be known already.
    at_x = float((yield Pass(x[None], score, by=())).worth)
    # Where there is no difference, rounding must not be taken for one.
    at_baseline = at_x
    if not torch.equal(x, baseline):
        at_baseline = float((yield Pass(baseline[None], score, by=())).worth)
    total = torch.zeros_like(x, dtype=torch.float64)

    def each(answer: Answer) -> None:
        nonlocal total
        total = total + answer.slope.double().sum(dim=0).to(x.device)

    def result(steps: int) -> IntegratedGradientsResult:
        attributions = (x - baseline).double() * total / steps
        error = abs(float(attributions.sum()) - (at_x - at_baseline))
        converged = error <= p.tolerance * abs(at_x - at_baseline)
        map_ = reduced(attributions, p.reduction)
        return IntegratedGradientsResult(map_, at_x, at_baseline, steps, error, converged)

    def so_far() -> IntegratedGradientsResult | None:
        return found

    found: IntegratedGradientsResult | None = None
    steps, places = p.steps, midpoints(p.steps)
    while True:
        # Points of a finer rule are no rule by themselves until all of them are there.
        yield Pass(Line(baseline, x, places), score, each=each, so_far=so_far)
        found = result(steps)
        if found.converged or 3 * steps > p.max_steps:
            return found
        steps *= 3
        places = tuple(place for n, place in enumerate(midpoints(steps)) if n % 3 != 1)


def midpoints(steps: int) -> tuple[float, ...]:
    """The middles of `steps` equal parts of [0, 1]."""
    return tuple((number + 0.5) / steps for number in range(steps))
