"""Fooling images by the gradient: noise that the network comes to be sure of."""

from dataclasses import replace

import torch
from torch import Tensor

from convlens.v1 import synthesis_methods_pb2 as methods
from convlens.workers.anatomy import INPUT
from convlens.workers.runner import Answer, Objective, Outputs, Pass, Steps
from convlens.workers.synthesizers.adam import moments
from convlens.workers.synthesizers.growth import Growth, Sketch
from convlens.workers.synthesizers.regularizers import squared_distance
from convlens.workers.synthesizers.task import Task


def fooling_gradient(
    task: Task, target: int, confidence: float, p: methods.FoolingGradient
) -> Steps[Growth]:
    """Adam's ascent of log softmax_c(I) - l2_weight * |I - mean|^2 from noise, in [0, 1].

    It ends where softmax_c(I) is at least `confidence`, or after its steps. I is in 8 bits, so that
    a PNG holds what the network saw; the steps are those of pixels that it is rounded from. Nguyen
    et al. 2014, arXiv:1412.1897, section 3.4; the logarithm still rises where the probability is
    flat.
    """
    climb, objective = _Climb(task, target, p), _log_probability(target)
    while True:
        is_last = climb.step >= p.steps
        with torch.enable_grad():
            picture = climb.picture.requires_grad_()
            seen = task.see(picture)
        # What the last step leads to needs no gradient.
        by = () if is_last else (INPUT,)
        answer = yield Pass(seen.detach()[None], objective, by=by, so_far=climb.growth)
        sketch = climb.look(answer)
        is_confident = sketch.probability is not None and sketch.probability >= confidence
        if is_last or is_confident:
            return climb.growth_of(replace(sketch, confident=is_confident))
        [slope] = torch.autograd.grad(seen, picture, answer.slope[0])
        climb.go_up(slope)


def _log_probability(target: int) -> Objective:
    def log_probability(outputs: Outputs) -> Tensor:
        return outputs.scores.log_softmax(1)[:, target]

    return log_probability


class _Climb:
    """A picture on its way up, and what it takes to go on."""

    def __init__(self, task: Task, target: int, p: methods.FoolingGradient) -> None:
        self._task, self._target, self._p = task, target, p
        #: Steps done.
        self.step = 0
        # What the steps change, before it is rounded [channels, height, width].
        self._pixels = task.start(methods.CANVAS_START_NOISE)
        if task.memory:
            self.step = task.memory.whole("step", 0, _MOST_STEPS)
            self._pixels = task.memory.take("pixels", task.blank(), 0, 1)
        self._adam = torch.optim.Adam([self._pixels], lr=p.learning_rate)
        self._moments = moments(self._pixels, self.step, task.memory)
        self._adam.state[self._pixels] = self._moments
        # What the last pass told; nothing before the first one.
        self._told: Sketch | None = None

    @property
    def picture(self) -> Tensor:
        """The picture as it is [channels, height, width], in 8 bits."""
        return (self._pixels * 255).round_() / 255

    def look(self, answer: Answer) -> Sketch:
        """The picture as it is, with what the network says of it."""
        value, picture = float(answer.worth), self.picture
        distance = float(squared_distance(picture, self._task.mean))
        terms = {"log-probability": -value, "l2": self._p.l2_weight * distance}
        probability = float(answer.scores[0].softmax(0)[self._target])
        norm = self._told.gradient_norm if self._told else None
        self._told = Sketch(picture, self.step, value, terms, probability, norm)
        return self._told

    def go_up(self, slope: Tensor) -> None:
        """One step; `slope` is the gradient of the log-probability by the picture."""
        descent = 2 * self._p.l2_weight * (self.picture - self._task.mean) - slope
        if self._told:
            self._told = replace(self._told, gradient_norm=float(descent.square().sum().sqrt()))
        self._pixels.grad = descent
        self._adam.step()
        self._pixels.clamp_(0, 1)
        self.step += 1

    def growth(self) -> Growth | None:
        """The picture as it is, with what was told of the one a step before."""
        if self._told is None:
            return None
        told = replace(self._told, pixels=self.picture, steps=self.step, confident=False)
        return self.growth_of(told)

    def growth_of(self, sketch: Sketch) -> Growth:
        """A sketch of the picture, with what it takes to go on from it."""
        mean, square = self._moments["exp_avg"], self._moments["exp_avg_sq"]
        state = {
            "step": torch.tensor(self.step),
            "pixels": self._pixels.clone(),
            "mean": mean.clone(),
            "square": square.clone(),
        }
        return Growth(self.step, [sketch], state)


# More than the proto allows.
_MOST_STEPS = 10**6
