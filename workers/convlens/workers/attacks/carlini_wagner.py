"""Carlini-Wagner L2: the smallest change, by a search over the weight of success."""

import math

import torch
from torch import Tensor

from convlens.v1 import attack_methods_pb2 as methods
from convlens.workers.attacks.attempt import Attempt, Task
from convlens.workers.attacks.nearest import Nearest, length_of
from convlens.workers.runner import Answer, Pass, Steps

# Keeps black and white a little inside, where arctanh is finite and they can move.
_INSIDE = 0.999999
# Successes have come to rest where the squared distance of the nearest fell by less than 1 % in
# so many looks: Adam goes round the boundary in that time. What is no success will be none where
# its loss fell by less than 0.3 % from one look to the next: it may go down slowly for long before.
_PATIENCE, _NEARER, _FALLEN = 3, 0.99, 0.997


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
    """Adam's steps for one c; whether it succeeds."""
    place = _place(task)
    adam, progress = Adam(place, p.learning_rate), Progress(p.steps)
    lack, trend = math.inf, 0.0
    for _ in range(p.steps):
        pixels, stretch = _pixels(task, place)
        # Goes on as it did, where it goes round the boundary a few steps at a time.
        answer = yield from _ask(task, p, pixels, nearest, lack + trend <= 0)
        nearest.steps += 1
        change = pixels - task.x
        distance = length_of(change)
        lead = float(task.aim.lead(answer.scores))
        # Of the first step nothing is known before.
        trend = p.confidence - lead - lack if math.isfinite(lack) else 0.0
        lack = p.confidence - lead
        success = False
        if lack > 0:
            nearest.offer(pixels, False, lead)
        else:
            success = yield from nearest.consider(pixels, answer.scores[0], distance)
        progress.note(distance**2 + c * max(lack, 0.0), distance**2 if success else math.inf)
        if p.abort_early and progress.has_ended():
            break
        if lack > 0:
            change.sub_(answer.slope[0], alpha=c / 2)
        adam.step(change.mul_(stretch))
    return progress.succeeds


def _ask(
    task: Task, p: methods.CarliniWagner, pixels: Tensor, nearest: Nearest, expects_success: bool
) -> Steps[Answer]:
    """The scores, and the gradient of the lead where that lacks something.

    Going back through the network is the larger part of a pass, so where nothing is expected to
    lack, that is seen first.
    """
    if expects_success:
        answer = yield Pass(pixels[None], so_far=nearest.attempt)
        if float(task.aim.lead(answer.scores)) >= p.confidence:
            return answer
    return (yield Pass(pixels[None], task.aim.margin, so_far=nearest.attempt))


def _place(task: Task) -> Tensor:
    """Where Adam starts: x, in the space where nothing bounds it."""
    return task.x.clone() if task.unbounded else torch.atanh((2 * task.x - 1) * _INSIDE)


def _pixels(task: Task, place: Tensor) -> tuple[Tensor, Tensor | float]:
    """The pixels at a place, and twice their derivative by it."""
    if task.unbounded:
        return place.clone(), 2.0
    # (1 + tanh(w)) / 2 in the form that takes a third of the time.
    pixels = torch.sigmoid(place + place)
    return pixels, (pixels * (1 - pixels)).mul_(4)


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
    """Follows what comes of one c, with a look at it after every twentieth of the steps."""

    def __init__(self, steps: int) -> None:
        # Adam needs some steps to find its pace: at first it overshoots.
        self._between = max(10, math.ceil(steps / 20))
        self._seen, self._success_at = 0, -math.inf
        self._loss = self._distance = math.inf
        self._looks: list[tuple[float, float]] = []

    def note(self, loss: float, distance: float) -> None:
        """Takes the loss of a step, and the squared distance where it is a success."""
        if math.isfinite(distance):
            self._success_at = self._seen
        self._loss, self._distance = min(loss, self._loss), min(distance, self._distance)
        if self._seen % self._between == 0:
            self._looks.append((self._loss, self._distance))
        self._seen += 1

    @property
    def succeeds(self) -> bool:
        """Whether there was a success of late, so not only where Adam overshot."""
        return self._seen - self._success_at <= _PATIENCE * self._between

    def has_ended(self) -> bool:
        """Whether what is to fall hardly did: the least loss, or the nearest success's distance."""
        kind, before, hardly = (1, _PATIENCE, _NEARER) if self.succeeds else (0, 1, _FALLEN)
        if (self._seen - 1) % self._between or len(self._looks) <= before:
            return False
        return self._looks[-1][kind] > hardly * self._looks[-1 - before][kind]
