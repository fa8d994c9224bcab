"""Gradient descent with momentum, at a rate that is lowered on the way."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from convlens.v1 import synthesis_methods_pb2 as methods
from convlens.workers.synthesizers.code import Code
from convlens.workers.synthesizers.gradients import led_back
from convlens.workers.synthesizers.growth import Growth, Sketch
from convlens.workers.synthesizers.memory import Memory
from convlens.workers.synthesizers.regularizers import alpha_norm, total_variation
from convlens.workers.synthesizers.task import Task

# So many steps without a lower loss are too many; the rate is lowered by this factor.
_PATIENCE = 5
_LOWERED = 0.5

# More than the protos allow.
_MOST_STEPS = 10**6


class Weights:
    """Of the two regularizers, for pixels in [0, 1]; where left out, those of the paper.

    There, pictures of 227 x 227 pixels are divided by sigma, the mean length of training ones about
    their mean: sigma^2 = _PAPER * spread^2. The alpha norm has the weight 2.16e8, and the total
    variation 0.5 in the layers of the first two convolutions of AlexNet, 5 in those of the next
    two, and 50 from there. A picture's total variation weighs here what it does there, whatever its
    size, and so does the mean of |x|^alpha: the sum of squared differences of a picture hardly
    depends on its size, while a sum over pixels grows with it. That holds for the paper's powers, 6
    and 2; for others it is our choice that the weights stay, and pixels are measured in spreads.
    """

    def __init__(self, task: Task, depth: float, p: methods.Inversion) -> None:
        spread, count = float(task.std.mean()), math.prod(task.canvas)
        strength = next(weight for until, weight in _VARIATION if depth <= until)
        self.alpha_norm = _ALPHA / _PAPER**2 / (count * spread**p.alpha)
        self.variation = strength / (_PAPER * spread**p.tv_beta)
        if p.HasField("alpha_weight"):
            self.alpha_norm = p.alpha_weight
        if p.HasField("tv_weight"):
            self.variation = p.tv_weight


_ALPHA, _PAPER = 2.16e8, 227 * 227 * 3
# By depth, from where two of AlexNet's eight layers with weights are over. With the paper's 50 for
# the last ones, 2 of 18 codes of `shapes` led to an even grey, whose code has hardly a gradient;
# with 5 none of 8 did.
_VARIATION = ((0.3, 0.5), (1.0, 5.0))


class Descent:
    """A picture on its way down, and the best that it was."""

    def __init__(self, task: Task, code: Code, p: methods.Inversion) -> None:
        self._task, self._code, self._p = task, code, p
        self._weights = Weights(task, code.depth, p)
        #: The code to come to, once it is known.
        self.wanted = None if code.given is None else code.given.to(task.mean)
        if task.memory:
            self._remember(task.memory)
        else:
            self._begin()

    def _begin(self) -> None:
        self.step = self._stale = 0
        self.pixels = self._best = self._task.start(self._p.start)
        self._delta = torch.zeros_like(self.pixels)
        self._lowest = self._distance = self._gradient = math.inf
        self._rate = self._p.learning_rate

    def _remember(self, memory: Memory) -> None:
        blank, number = self._task.blank(), torch.zeros((), dtype=torch.float64)
        self.step = memory.whole("step", 1, _MOST_STEPS)
        self._stale = memory.whole("stale", 0, _PATIENCE)
        self.pixels, self._best = (memory.take(name, blank, 0, 1) for name in ("pixels", "best"))
        self._delta = memory.take("delta", blank)
        self._lowest, self._distance, self._gradient, self._rate = (
            float(memory.take(name, number, 0)) for name in _NUMBERS
        )
        if self._code.given is None:
            self.wanted = memory.take("code", self._task.mean.new_zeros(self._code.shape))

    def move(self, distance: float, slope: Tensor) -> None:
        """One step, from what the pixels came to and its gradient by what the network sees."""
        loss, gradient = self._loss(distance, slope)
        self.step += 1
        self._stale += 1
        if loss < self._lowest:
            self._best, self._lowest, self._stale = self.pixels, loss, 0
            self._distance, self._gradient = distance, float(gradient.square().sum().sqrt())
        if self._stale < _PATIENCE:
            self._delta = self._p.momentum * self._delta - self._rate * gradient
            self.pixels = (self.pixels + self._delta).clamp(0, 1)
            return
        self._rate, self._stale = self._rate * _LOWERED, 0
        self.pixels, self._delta = self._best, torch.zeros_like(self._delta)

    def _loss(self, distance: float, slope: Tensor) -> tuple[float, Tensor]:
        """The loss at the pixels, and its gradient by them; sets the rate at the first step."""
        with torch.enable_grad():
            pixels = self.pixels.detach().requires_grad_()
            seen, terms = self._task.see(pixels), torch.stack([*self._terms(pixels).values()]).sum()
        by_code = led_back(slope, seen, pixels)
        [by_terms] = torch.autograd.grad(terms, pixels)
        if not self.step and not self._p.HasField("learning_rate"):
            # Where the codes' distance would be 0 if it fell in a straight line (Polyak's step).
            # The total variation of noise is so steep that its step would be far too short.
            self._rate = distance / max(float(by_code.square().sum()), _TINY)
        return distance + float(terms.detach()), by_code + by_terms

    def _terms(self, pixels: Tensor) -> dict[str, Tensor]:
        x, p = pixels - self._task.mean, self._p
        return {
            "alpha norm": self._weights.alpha_norm * alpha_norm(x, p.alpha),
            "total variation": self._weights.variation * total_variation(x, p.tv_beta),
        }

    def growth(self) -> Growth | None:
        """The best so far, None before the first step."""
        if not self.step:
            return None
        terms = {name: float(term) for name, term in self._terms(self._best).items()}
        sketch = Sketch(
            self._best,
            self.step,
            objective=self._distance,
            terms={"code": self._distance, **terms},
            gradient_norm=self._gradient,
            code_distance=self._distance,
            psnr=self._psnr(),
        )
        return Growth(self.step, [sketch], self._state())

    def _psnr(self) -> float | None:
        """Of what the network sees of the best, against the picture that is inverted."""
        if self._code.picture is None:
            return None
        apart = self._task.see(self._best) - self._code.picture.to(self._best)
        return -10 * math.log10(max(float(apart.square().mean()), _TINY))

    def _state(self) -> Mapping[str, Tensor]:
        numbers = (self._lowest, self._distance, self._gradient, self._rate)
        state = {
            "step": torch.tensor(self.step),
            "stale": torch.tensor(self._stale),
            "pixels": self.pixels,
            "best": self._best,
            "delta": self._delta,
        }
        for name, number in zip(_NUMBERS, numbers, strict=True):
            state[name] = torch.tensor(number, dtype=torch.float64)
        if self._code.given is None and self.wanted is not None:
            state["code"] = self.wanted
        return state


_NUMBERS = ("lowest", "distance", "gradient", "rate")
# Keeps quotients and logarithms finite.
_TINY = 1e-30
