"""SmoothGrad: saliency averaged over noisy copies of the picture."""

from dataclasses import dataclass

import torch
from torch import Tensor

from convlens.v1 import explanation_methods_pb2 as methods
from convlens.workers.methods.randomness import normal
from convlens.workers.methods.reductions import reduced
from convlens.workers.runner import Answer, Objective, Pass, Steps


@dataclass(frozen=True)
class SmoothGradResult:
    """The map, its standard error (the root of its mean square over the map), and the samples."""

    map: Tensor
    standard_error: float
    samples: int


@dataclass(frozen=True)
class NoisyCopies:
    """Copies of x with Gaussian noise of standard deviation `sigma`, each drawn by itself."""

    x: Tensor
    sigma: float
    samples: int
    seed: int

    def __len__(self) -> int:
        return self.samples

    def __getitem__(self, rows: slice, /) -> Tensor:
        numbers = range(self.samples)[rows]
        noise = [normal(self.x, self.seed, "smooth_grad", number) for number in numbers]
        return self.x + self.sigma * torch.stack(noise)


class Moments:
    """The mean of a quantity over samples, and its variance, in double precision."""

    def __init__(self) -> None:
        self.count = 0
        self.mean = torch.zeros(())
        self._squares = torch.zeros(())

    def add(self, values: Tensor) -> None:
        """Takes the quantity of some samples [n, ...], one after the other (Welford)."""
        for value in values.double():
            self.count += 1
            if self.count == 1:
                self.mean, self._squares = torch.zeros_like(value), torch.zeros_like(value)
            step = value - self.mean
            self.mean = self.mean + step / self.count
            self._squares = self._squares + step * (value - self.mean)

    @property
    def variance(self) -> Tensor:
        """Of the quantity, over the samples (divided by their number less one)."""
        return self._squares / (self.count - 1)

    @property
    def standard_error(self) -> Tensor:
        """Of the mean."""
        return (self.variance / self.count).sqrt()


def smooth_grad(
    x: Tensor, score: Objective, p: methods.SmoothGrad, seed: int
) -> Steps[SmoothGradResult]:
    """The mean gradient over copies of x [channels, height, width] with noise.

    The noise is relative to the range of x. Smilkov et al. 2017, arXiv:1706.03825, section 3.
    """
    sigma = p.noise * float(x.max() - x.min())
    moments = Moments()

    def each(answer: Answer) -> None:
        moments.add(_quantity(answer.slope, p))

    yield Pass(
        NoisyCopies(x, sigma, p.samples, seed),
        score,
        each=each,
        so_far=lambda: _result(moments, p) if moments.count > 1 else None,
    )
    return _result(moments, p)


def _result(moments: Moments, p: methods.SmoothGrad) -> SmoothGradResult:
    error = float(moments.standard_error.square().mean().sqrt())
    map_ = moments.mean
    if p.form == methods.SMOOTH_GRAD_FORM_SIGNED:
        map_ = reduced(moments.mean, p.reduction)
    elif p.form == methods.SMOOTH_GRAD_FORM_VARIANCE:
        # That of a variance, where the gradients are normally distributed.
        share = (2 / (moments.count - 1)) ** 0.5
        error = float((moments.variance * share).square().mean().sqrt())
        map_ = reduced(moments.variance, p.reduction)
    return SmoothGradResult(map_, error, moments.count)


def _quantity(gradients: Tensor, p: methods.SmoothGrad) -> Tensor:
    """What is averaged, for each sample: a form without a sign is reduced before it is."""
    if p.form == methods.SMOOTH_GRAD_FORM_ABSOLUTE:
        return reduced(gradients.abs(), p.reduction)
    if p.form == methods.SMOOTH_GRAD_FORM_SQUARED:
        return reduced(gradients.square(), p.reduction)
    return gradients
