"""An attack at work on one picture, and what the network says of what it found."""

from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from convlens.contract import Failure
from convlens.workers.adversarial.registry import Attack
from convlens.workers.adversarial.verdict import Judged
from convlens.workers.adversarial.view import View
from convlens.workers.attacks import Attempt, Task
from convlens.workers.attacks.budget import Budget
from convlens.workers.body import Body
from convlens.workers.runner import Pass, Steps, side_by_side


@dataclass(frozen=True, slots=True, eq=False)
class Attacking:
    """An attack on a view of a picture.

    With `until_rounded`, only what `network` holds to be a success in 8 bits too is one.
    """

    attack: Attack
    view: View
    network: Body
    until_rounded: bool

    def run(self, task: Task, judged: Judged) -> Steps[Judged]:
        """What is `judged` before the attack becomes what is judged after it.

        An attack that has nothing left to do is not begun. Raises ValueError, a defect, where one
        went further than it may.
        """
        task = replace(task, unbounded=self.view.is_vector)
        budget = self.attack.budget(task)
        if not judged.is_reached_before:
            judged = yield from self._attacked(task, judged, budget)
        return (yield from self._judged(judged, budget))

    def _attacked(self, task: Task, judged: Judged, budget: Budget | None) -> Steps[Judged]:
        if self.until_rounded:
            rounding = partial(_as_sent, budget=budget, view=self.view)
            task = replace(task, rounding=rounding, rounded_body=self.network)
        # A branch of its own: it may end early, and is judged all the same.
        [found] = yield from side_by_side([judged.watched.over(self.attack.begin(task))])
        if isinstance(found, Failure):
            raise found
        self._check(found, task, budget)
        return replace(judged, attempt=found)

    def _check(self, found: Attempt, task: Task, budget: Budget | None) -> None:
        low, high = task.bounds
        pixels = found.pixels
        if pixels.shape != task.x.shape or not bool(pixels.isfinite().all()):
            raise ValueError(f"{self.attack.title} gave no picture")
        if float(pixels.min()) < low or float(pixels.max()) > high:
            raise ValueError(f"{self.attack.title} left the range of pixels")
        if budget is not None and not torch.equal(budget.project(pixels), pixels):
            raise ValueError(f"{self.attack.title} went over its budget")

    def _judged(self, judged: Judged, budget: Budget | None) -> Steps[Judged]:
        """What the network says of an attempt, as it is and in 8 bits."""
        view, pixels = self.view, judged.attempt.pixels
        shown = view.rounded(pixels, budget)
        late = replace(judged, rounded=shown, is_late=True)
        answer = yield Pass(pixels[None], body=view.body, so_far=lambda: late)
        judged = replace(judged, rounded=shown, after=answer.scores[0].double().cpu())
        if shown is None:
            return judged
        answer = yield Pass(view.sent(shown)[None], so_far=lambda: late)
        return replace(judged, after_rounding=answer.scores[0].double().cpu())


def _as_sent(pixels: Tensor, budget: Budget | None, view: View) -> Tensor | None:
    shown = view.rounded(pixels, budget)
    return None if shown is None else view.sent(shown)
