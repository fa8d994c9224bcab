"""APGD: projected steps with momentum, which are halved where progress stalls."""

from dataclasses import dataclass

import torch
from torch import Tensor

from convlens.contract.validation import Violation, invalid
from convlens.v1 import attack_methods_pb2 as methods
from convlens.workers.attacks.attempt import Attempt, Best, Task
from convlens.workers.attacks.budget import Budget, budget_of
from convlens.workers.runner import Outputs, Pass, Steps


def apgd(task: Task, p: methods.APGD) -> Steps[Attempt]:
    """Climbs the loss from random starts, and goes back to the best point with half the step where
    it stalls.

    What it returns has the largest lead it saw. Croce & Hein 2020, arXiv:2003.01690, Algorithm 1.
    """
    budget, best = budget_of(task, p), Best(task.x)
    for start in range(p.restarts):
        if (yield from _climb(task, p, budget, best, start)):
            break
    return best.attempt()


def check_classes(p: methods.APGD, classes: int, is_targeted: bool, path: str) -> None:
    """Raises Failure INVALID_REQUEST where a network has too few classes for the loss.

    `path` names the parameters in the request.
    """
    least = 4 if is_targeted else 3
    if p.loss == methods.ATTACK_LOSS_DLR and classes < least:
        words = (
            f"is ATTACK_LOSS_DLR, which takes a network of at least {least} classes"
            f"{' where there is a target' if is_targeted else ''}; this one has {classes}: "
            "take ATTACK_LOSS_CROSS_ENTROPY"
        )
        raise invalid([Violation(field=f"{path}.loss", description=words)])


def _climb(task: Task, p: methods.APGD, budget: Budget, best: Best, start: int) -> Steps[bool]:
    """One start; whether the attack is at its end. It goes on from `now`, or from the `top`."""
    now = yield from _look(task, p, best, budget.random(task.seed, "apgd", start))
    before, top, pace = now.pixels, now, _Pace(p, budget.epsilon, now.loss)
    for step in range(1, p.steps + 1):
        if now.ends:
            return True
        momentum = p.momentum if step > 1 else 1.0
        pixels = _next(budget, now, before, pace.length, momentum)
        best.steps += 1
        last, before = now, now.pixels
        now = yield from _look(task, p, best, pixels, is_last=step == p.steps)
        if now.loss > top.loss:
            top = now
        if pace.halves(step, now.loss > last.loss, top.loss) and not now.ends:
            now = top
    return now.ends


def _next(budget: Budget, now: "_Point", before: Tensor, length: float, momentum: float) -> Tensor:
    """A step up the gradient, drawn towards where the last one went; each is projected."""
    step = budget.project(now.pixels + length * budget.direction(now.slope)) - now.pixels
    return budget.project(now.pixels + momentum * step + (1 - momentum) * (now.pixels - before))


@dataclass(frozen=True, slots=True, eq=False)
class _Point:
    """Pixels [channels, height, width], the loss there and its gradient, and whether it is all."""

    pixels: Tensor
    loss: float
    slope: Tensor
    ends: bool


def _look(
    task: Task, p: methods.APGD, best: Best, pixels: Tensor, is_last: bool = False
) -> Steps[_Point]:
    """What there is at pixels; what the last step leads to needs no gradient."""
    loss = task.way.dlr if p.loss == methods.ATTACK_LOSS_DLR else task.way.cross_entropy
    answer = yield Pass(pixels[None], None if is_last else loss, so_far=best.attempt)
    success = yield from task.accepts(pixels, answer.scores[0])
    best.offer(pixels, success, float(task.aim.lead(answer.scores)))
    value = float(loss(Outputs(answer.scores, {})))
    # A copy, so that the gradients of all that were computed along are not kept with it.
    slope = torch.zeros_like(pixels) if is_last else answer.slope[0].clone()
    return _Point(pixels, value, slope, success and task.stop_at_success)


class _Pace:
    """How long a step is, and whether it is halved at a checkpoint."""

    def __init__(self, p: methods.APGD, epsilon: float, loss: float) -> None:
        self.length = 2 * epsilon
        self._rho = p.rho
        self._checkpoints = checkpoints(p.steps)
        # How it was at the last checkpoint, and in how many steps the loss has risen since.
        self._step, self._length, self._highest = 0, self.length, loss
        self._rises = 0

    def halves(self, step: int, rises: bool, highest: float) -> bool:
        """Takes whether the loss rises at a step, and its highest value; whether that stalls."""
        self._rises += rises
        if step not in self._checkpoints:
            return False
        stalls = self._rises < self._rho * (step - self._step)
        stalls = stalls or (self._length, self._highest) == (self.length, highest)
        self._step, self._length, self._highest = step, self.length, highest
        self._rises = 0
        if stalls:
            self.length /= 2
        return stalls


def checkpoints(steps: int) -> list[int]:
    """After which of some steps it is asked whether progress stalls.

    At 22 % of them, and then after ever fewer, each 3 % less, down to 6 %, in whole steps as the
    authors count them; with few steps that is more often than the paper's formula has it.
    """
    apart, less, least = (max(steps * share // 100, 1) for share in (22, 3, 6))
    found: list[int] = []
    now = apart
    while now <= steps:
        found.append(now)
        apart = max(apart - less, least)
        now += apart
    return found
