"""DeepFool: steps to the nearest boundary of the linearised network."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from convlens.contract import Failure
from convlens.v1 import attack_methods_pb2 as methods
from convlens.workers.attacks.aim import Aim
from convlens.workers.attacks.attempt import Attempt, Best, Task
from convlens.workers.attacks.nearest import length_of
from convlens.workers.runner import Answer, Objective, Outputs, Pass, Steps, side_by_side

# A gradient that is shorter leads nowhere: what is divided by it would not be a number.
_FLAT = 1e-30


@dataclass(frozen=True, slots=True)
class Boundary:
    """Between two classes: an objective that is negative `here`, and 0 where they meet."""

    here: int
    beyond: int

    def __call__(self, outputs: Outputs) -> Tensor:
        return outputs.scores[:, self.beyond] - outputs.scores[:, self.here]


def deep_fool(task: Task, p: methods.DeepFool) -> Steps[Attempt]:
    """Steps to the nearest boundary of the linearised network, until one is crossed.

    The boundaries are those between the original class and the candidates, which are the best
    classes of x; with a target, the one around it. The sum of all steps goes past them by the
    overshoot, before the bounds cut it. Without an overshoot it may come to rest on a boundary.
    Moosavi-Dezfooli et al. 2015, arXiv:1511.04599, algorithm 2.
    """
    best, total = Best(task.x), torch.zeros_like(task.x)
    boundaries: list[Objective] = []
    for step in range(p.steps + 1):
        pixels = (task.x + (1 + p.overshoot) * total).clamp(*task.bounds)
        answer = yield Pass(pixels[None], so_far=best.attempt)
        success = yield from task.accepts(pixels, answer.scores[0])
        lead = float(task.aim.lead(answer.scores))
        best.offer(pixels, success, lead)
        if success or step == p.steps:
            break
        boundaries = boundaries or _boundaries(task.aim, answer.scores[0], p.candidates)
        if lead <= 0:
            # Without the overshoot: else it would be that of the last step alone, too short to
            # cross a boundary where the bounds cut most of the step. What crossed one, but is none
            # in 8 bits, goes as far again.
            pixels = (task.x + total).clamp(*task.bounds)
        slopes = yield from _slopes(pixels, boundaries, best)
        way = _way(slopes, p.norm)
        if way is None:
            break
        best.steps += 1
        total += way
    return best.attempt()


def _boundaries(aim: Aim, scores: Tensor, candidates: int) -> list[Objective]:
    """Those that are looked at, for the scores [classes] of x."""
    if aim.target is not None:
        return [aim.margin]
    order = cast("list[int]", scores.argsort(descending=True, stable=True).tolist())
    others = [index for index in order if index != aim.original]
    return [Boundary(aim.original, index) for index in others[: candidates - 1]]


def _slopes(pixels: Tensor, boundaries: Sequence[Objective], best: Best) -> Steps[list[Answer]]:
    """The value and the gradient of each boundary; none where the attack is to end now.

    Passes at the same point share what goes forward through the network.
    """

    def slope(boundary: Objective) -> Steps[Answer]:
        return (yield Pass(pixels[None], boundary, so_far=best.attempt))

    found = yield from side_by_side([slope(boundary) for boundary in boundaries])
    for each in found:
        if isinstance(each, Failure):
            raise each
    return [each for each in found if isinstance(each, Answer)]


def _way(slopes: Sequence[Answer], norm: methods.Norm.ValueType) -> Tensor | None:
    """The shortest change that leads to a boundary, were the network linear; None without one."""
    nearest, way = float("inf"), None
    for each in slopes:
        gradient = each.slope[0]
        is_linf = norm == methods.NORM_LINF
        length = float(gradient.abs().sum()) if is_linf else length_of(gradient)
        distance = abs(float(each.worth)) / length if length > _FLAT else float("inf")
        if distance < nearest:
            unit = gradient.sign() if is_linf else gradient / length
            nearest, way = distance, unit * distance
    return way
