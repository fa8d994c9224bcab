"""Fooling images by the gradient: noise that the network comes to be sure of."""

from dataclasses import replace

import torch
from torch import Tensor

from convlens.v1 import synthesis_methods_pb2 as methods
from convlens.workers.anatomy import INPUT
from convlens.workers.runner import Answer, Objective, Outputs, Pass, Steps
from convlens.workers.synthesizers.growth import Growth, Sketch
from convlens.workers.synthesizers.memory import broken
from convlens.workers.synthesizers.regularizers import squared_distance
from convlens.workers.synthesizers.task import Task


def fooling_gradient(
    task: Task, target: int, confidence: float, p: methods.FoolingGradient
) -> Steps[Growth]:
    """Adam's ascent of log softmax_c(I) - l2_weight * |I - mean|^2 from noise, in [0, 1].

    It ends where softmax_c(I) is at least `confidence`, or after its steps. Nguyen et al. 2014,
    arXiv:1412.1897, section 3.4; the logarithm still rises where the probability is flat.
    """
    climb, objective = _Climb(task, target, p), _log_probability(target)
    while True:
        is_last = climb.step >= p.steps
        with torch.enable_grad():
            pixels = climb.pixels.clone().requires_grad_()
            seen = task.see(pixels)
        # What the last step leads to needs no gradient.
        by = () if is_last else (INPUT,)
        answer = yield Pass(seen.detach()[None], objective, by=by, so_far=climb.growth)
        sketch = climb.look(answer)
        is_confident = sketch.probability is not None and sketch.probability >= confidence
        if is_last or is_confident:
            return climb.growth_of(replace(sketch, confident=is_confident))
        [slope] = torch.autograd.grad(seen, pixels, answer.slope[0])
        climb.go_up(slope)


def _log_probability(target: int) -> Objective:
    def log_probability(outputs: Outputs) -> Tensor:
        return outputs.scores.log_softmax(1)[:, target]

    return log_probability


class _Climb:
    """A picture on its way up, and what it takes to go on."""

    def __init__(self, task: Task, target: int, p: methods.FoolingGradient) -> None:
        self._task, self._target, self._p = task, target, p
        blank = torch.zeros_like(task.blank())
        #: Steps done, and the picture [channels, height, width] after them.
        self.step = 0
        self.pixels = task.start(methods.CANVAS_START_NOISE)
        mean, square = blank, blank.clone()
        if task.memory:
            self.step = task.memory.whole("step", 0, _MOST_STEPS)
            self.pixels = task.memory.take("pixels", blank, 0, 1)
            mean, square = task.memory.take("mean", blank), task.memory.take("square", blank, 0)
            # No gradients have such means, and steps along them would be endless.
            if bool((mean.abs() > _MOST_MEAN * square.sqrt() + _TINY).any()):
                raise broken()
        self._adam = torch.optim.Adam([self.pixels], lr=p.learning_rate)
        step = torch.tensor(float(self.step))
        self._moments: dict[str, Tensor] = {"step": step, "exp_avg": mean, "exp_avg_sq": square}
        self._adam.state[self.pixels] = self._moments
        # What the last pass told; nothing before the first one.
        self._told: Sketch | None = None

    def look(self, answer: Answer) -> Sketch:
        """The picture as it is, with what the network says of it."""
        value = float(answer.worth)
        distance = float(squared_distance(self.pixels, self._task.mean))
        terms = {"log-probability": -value, "l2": self._p.l2_weight * distance}
        probability = float(answer.scores[0].softmax(0)[self._target])
        norm = self._told.gradient_norm if self._told else None
        self._told = Sketch(self.pixels.clone(), self.step, value, terms, probability, norm)
        return self._told

    def go_up(self, slope: Tensor) -> None:
        """One step; `slope` is the gradient of the log-probability by the pixels."""
        descent = 2 * self._p.l2_weight * (self.pixels - self._task.mean) - slope
        if self._told:
            self._told = replace(self._told, gradient_norm=float(descent.square().sum().sqrt()))
        self.pixels.grad = descent
        self._adam.step()
        self.pixels.clamp_(0, 1)
        self.step += 1

    def growth(self) -> Growth | None:
        """The picture as it is, with what was told of the one a step before."""
        if self._told is None:
            return None
        told = replace(self._told, pixels=self.pixels.clone(), steps=self.step, confident=False)
        return self.growth_of(told)

    def growth_of(self, sketch: Sketch) -> Growth:
        """A sketch of the picture, with what it takes to go on from it."""
        mean, square = self._moments["exp_avg"], self._moments["exp_avg_sq"]
        state = {
            "step": torch.tensor(self.step),
            "pixels": self.pixels.clone(),
            "mean": mean.clone(),
            "square": square.clone(),
        }
        return Growth(self.step, [sketch], state)


# More than the proto allows.
_MOST_STEPS = 10**6
# By the inequality of Cauchy and Schwarz Adam's mean is at most so many roots of its square.
_MOST_MEAN, _TINY = 7.5, 1e-15
