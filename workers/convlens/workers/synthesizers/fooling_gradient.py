"""Fooling images by the gradient: noise that the network comes to be sure of."""

from dataclasses import replace

import torch
from torch import Tensor

from convlens.v1 import synthesis_methods_pb2 as methods
from convlens.workers.anatomy import INPUT
from convlens.workers.runner import Answer, Objective, Outputs, Pass, Steps
from convlens.workers.synthesizers.adam import Adam, moments
from convlens.workers.synthesizers.gradients import led_back
from convlens.workers.synthesizers.growth import Growth, Sketch
from convlens.workers.synthesizers.memory import Memory, broken
from convlens.workers.synthesizers.regularizers import squared_distance
from convlens.workers.synthesizers.task import Task


def fooling_gradient(
    task: Task, target: int, confidence: float, p: methods.FoolingGradient
) -> Steps[Growth]:
    """Adam's ascent of log softmax_c(I) - l2_weight * |I - mean|^2 from noise, in [0, 1].

    It ends where softmax_c(I) is at least `confidence`. A climb that is not there after a while
    begins again from other noise, and after all steps the surest of their ends counts. I is in 8
    bits, so that a PNG holds what the network saw; the steps are those of pixels that it is rounded
    from. Nguyen et al. 2014, arXiv:1412.1897, section 3.4; the logarithm still rises where the
    probability is flat.
    """
    climb, objective = _Climb(task, target, p), _log_probability(target)
    while True:
        is_last = climb.step >= p.steps
        with torch.enable_grad():
            picture = climb.picture.requires_grad_()
            seen = task.see(picture)
        # What nothing is to follow needs no gradient.
        by = () if is_last or climb.ends else (INPUT,)
        answer = yield Pass(seen.detach()[None], objective, by=by, so_far=climb.growth)
        sketch = climb.look(answer)
        is_confident = sketch.probability is not None and sketch.probability >= confidence
        if is_last or is_confident:
            return climb.growth_of(replace(climb.surest(sketch), confident=is_confident))
        if climb.ends:
            climb.begin_again()
            continue
        climb.go_up(led_back(answer.slope[0], seen, picture))


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
        # The surest picture of earlier climbs.
        self._best: Sketch | None = None
        if task.memory:
            self.step = task.memory.whole("step", 0, _MOST_STEPS)
            self._best = self._recall(task.memory)
        # What the last pass told; nothing before the first one of a climb.
        self._told: Sketch | None = None
        self._set_out(task.memory)

    def _set_out(self, memory: Memory | None) -> None:
        """A climb from noise, or from where an earlier call left it."""
        start = self._task.start(methods.CANVAS_START_NOISE, self.step // self._p.restart_every)
        # What the steps change, before it is rounded [channels, height, width].
        self._pixels = memory.take("pixels", start, 0, 1) if memory else start
        steps = self.step % self._p.restart_every
        begun = moments(self._pixels, steps, memory)
        self._adam = Adam(self._pixels, self._p.learning_rate, begun)

    @property
    def ends(self) -> bool:
        """Whether the next step begins again from other noise."""
        return (self.step + 1) % self._p.restart_every == 0

    @property
    def picture(self) -> Tensor:
        """The picture as it is [channels, height, width], in 8 bits."""
        return (self._pixels * 255).round_() / 255

    def look(self, answer: Answer) -> Sketch:
        """The picture as it is, with what the network says of it."""
        probability = float(answer.scores[0].softmax(0)[self._target])
        norm = self._told.gradient_norm if self._told else None
        self._told = self._sketch(self.picture, self.step, float(answer.worth), probability, norm)
        return self._told

    def _sketch(
        self, picture: Tensor, step: int, value: float, probability: float, norm: float | None
    ) -> Sketch:
        distance = float(squared_distance(picture, self._task.mean))
        terms = {"log-probability": -value, "l2": self._p.l2_weight * distance}
        return Sketch(picture, step, value, terms, probability, norm)

    def go_up(self, slope: Tensor) -> None:
        """One step; `slope` is the gradient of the log-probability by the picture."""
        descent = 2 * self._p.l2_weight * (self.picture - self._task.mean) - slope
        if self._told:
            self._told = replace(self._told, gradient_norm=float(descent.square().sum().sqrt()))
        self._adam.step(descent)
        self._pixels.clamp_(0, 1)
        self.step += 1

    def begin_again(self) -> None:
        """One step: to other noise."""
        assert self._told
        self._best = replace(self.surest(self._told), gradient_norm=None)
        self._told = None
        self.step += 1
        self._set_out(None)

    def surest(self, sketch: Sketch) -> Sketch:
        """A sketch, or that of an earlier climb where it was surer."""
        is_surer = self._best is None or sketch.objective >= self._best.objective
        return sketch if is_surer or self._best is None else self._best

    def growth(self) -> Growth | None:
        """The surest picture; the one at work is told of as it was a step before."""
        if self._told is None:
            return self.growth_of(self._best) if self._best else None
        now = replace(self._told, pixels=self.picture, steps=self.step)
        return self.growth_of(replace(self.surest(now), confident=False))

    def growth_of(self, sketch: Sketch) -> Growth:
        """A sketch, with what it takes to go on from the picture at work."""
        best = self._best
        state = {
            "step": torch.tensor(self.step),
            "pixels": self._pixels.clone(),
            "mean": self._adam.moments["exp_avg"].clone(),
            "square": self._adam.moments["exp_avg_sq"].clone(),
            "best": best.pixels if best else self._task.blank(),
            "best_told": torch.tensor(_told(best), dtype=torch.float64),
        }
        return Growth(self.step, [sketch], state)

    def _recall(self, memory: Memory) -> Sketch | None:
        pixels = memory.take("best", self._task.blank(), 0, 1)
        told = memory.take("best_told", torch.zeros(3, dtype=torch.float64))
        step, value, probability = (float(number) for number in told)
        if step == _NEVER:
            return None
        if not (step in range(self.step) and value <= 0 <= probability <= 1):
            raise broken()
        return self._sketch(pixels, int(step), value, probability, None)


def _told(best: Sketch | None) -> tuple[float, float, float]:
    """Its step, log-probability and probability."""
    if best is None or best.probability is None:
        return _NEVER, 0.0, 0.0
    return float(best.steps), best.objective, best.probability


# The step of a picture that there is none of.
_NEVER = -1.0
# More than the proto allows.
_MOST_STEPS = 10**6
