"""Carlini-Wagner L2: the smallest change, by a search over the weight of success."""

import math

import torch
from torch import Tensor

from convlens.v1 import attack_methods_pb2 as methods
from convlens.workers.attacks.attempt import Attempt, Task
from convlens.workers.attacks.nearest import Nearest, length_of
from convlens.workers.runner import Pass, Steps

# Keeps black and white a little inside, where arctanh is finite and they can move.
_INSIDE = 0.999999


def carlini_wagner(task: Task, p: methods.CarliniWagner) -> Steps[Attempt]:
    """Minimises the squared length of the change plus c times what the lead lacks of `confidence`.

    It does so for several c: ten times the last one until one succeeds, then the middle between
    the largest that fails and the smallest that succeeds. Bounded pixels are a tanh. It returns
    the nearest success on the way. Carlini & Wagner 2016, arXiv:1608.04644, sections V and VI.
    """
    nearest = Nearest(task)
    answer = yield Pass(task.x[None], task.aim.margin, so_far=nearest.attempt)
    if float(answer.worth) >= p.confidence and (
        yield from nearest.consider(task.x, answer.scores[0], 0.0)
    ):
        return nearest.attempt()
    fails, succeeds, c = 0.0, math.inf, p.initial_c
    for _ in range(p.search_steps):
        if (yield from _descend(task, p, c, nearest)):
            succeeds = c
        else:
            fails = c
        c = 10 * c if math.isinf(succeeds) else (fails + succeeds) / 2
    return nearest.attempt()


def _descend(task: Task, p: methods.CarliniWagner, c: float, nearest: Nearest) -> Steps[bool]:
    """Adam's steps for one c; whether any of them succeeds."""
    place = _place(task)
    adam, progress = Adam(place, p.learning_rate), Progress(p.steps)
    found = False
    for _ in range(p.steps):
        pixels, stretch = _pixels(task, place)
        answer = yield Pass(pixels[None], task.aim.margin, so_far=nearest.attempt)
        nearest.steps += 1
        change, lead = pixels - task.x, float(answer.worth)
        distance = length_of(change)
        if lead < p.confidence:
            nearest.offer(pixels, False, lead)
        elif not found or distance < nearest.distance:
            found |= yield from nearest.consider(pixels, answer.scores[0], distance)
        loss = distance**2 + c * max(p.confidence - lead, 0.0)
        if p.abort_early and progress.has_ended(loss):
            break
        if lead < p.confidence:
            change.sub_(answer.slope[0], alpha=c / 2)
        adam.step(change.mul_(stretch))
    return found


def _place(task: Task) -> Tensor:
    """Where Adam starts: x, in the space where nothing bounds it."""
    return task.x.clone() if task.unbounded else torch.atanh((2 * task.x - 1) * _INSIDE)


def _pixels(task: Task, place: Tensor) -> tuple[Tensor, Tensor | float]:
    """The pixels at a place, and twice their derivative by it."""
    if task.unbounded:
        return place.clone(), 2.0
    t = torch.tanh(place)
    return 0.5 + 0.5 * t, 1 - t * t


class Adam:
    """Moves a tensor down, by Kingma & Ba 2014, arXiv:1412.6980, algorithm 1."""

    def __init__(self, place: Tensor, rate: float) -> None:
        self._place, self._rate = place, rate
        self._mean, self._square = torch.zeros_like(place), torch.zeros_like(place)
        self._steps = 0

    def step(self, gradient: Tensor) -> None:
        """One step, in place."""
        self._steps += 1
        self._mean.lerp_(gradient, 1 - 0.9)
        self._square.mul_(0.999).addcmul_(gradient, gradient, value=1 - 0.999)
        root = (self._square / (1 - 0.999**self._steps)).sqrt_().add_(1e-8)
        self._place.addcdiv_(self._mean, root, value=-self._rate / (1 - 0.9**self._steps))


class Progress:
    """Looks at the loss after every tenth of the steps."""

    def __init__(self, steps: int) -> None:
        self._between = math.ceil(steps / 10)
        self._seen = 0
        self._least = self._before = math.inf

    def has_ended(self, loss: float) -> bool:
        """Whether the least loss so far is hardly less than it was at the last look."""
        self._least = min(self._least, loss)
        is_look = self._seen % self._between == 0
        self._seen += 1
        if not is_look:
            return False
        before, self._before = self._before, self._least
        return self._least > 0.9999 * before
