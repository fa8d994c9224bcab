"""Auto: several attacks one after the other, each on what the ones before could not fool."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from convlens.contract import with_defaults
from convlens.v1 import adversarial_pb2
from convlens.v1 import attack_methods_pb2 as methods
from convlens.workers.attacks.aim import Aim
from convlens.workers.attacks.apgd import apgd
from convlens.workers.attacks.attempt import Attempt, Best, Task
from convlens.workers.attacks.budget import budget_of
from convlens.workers.attacks.deep_fool import deep_fool
from convlens.workers.attacks.expectation import averaged
from convlens.workers.attacks.square import square
from convlens.workers.runner import Pass, Steps

RANDOMNESS = adversarial_pb2.ATTACK_FLAG_RANDOMNESS
BLACK_BOX_STRONGER = adversarial_pb2.ATTACK_FLAG_BLACK_BOX_STRONGER


@dataclass(frozen=True, slots=True)
class Part:
    """One of the attacks; one without gradients looks at scores only."""

    title: str
    steps: Steps[Attempt]
    has_gradients: bool = True


def auto_attack(task: Task, p: methods.AutoAttack) -> Steps[Attempt]:
    """APGD on cross-entropy, APGD towards the best other classes, DeepFool, and Square.

    It ends at the first success within the budget. Flags say where the same picture gets different
    scores, and where scores alone led further than gradients. Croce & Hein 2020, arXiv:2003.01690,
    section 6, with DeepFool in the place of FAB.
    """
    flags: frozenset[int] = frozenset()
    first = yield Pass(task.x[None])
    again = yield Pass(task.x[None])
    if not torch.equal(first.scores, again.scores):
        flags |= {RANDOMNESS}
    budget, best = budget_of(task, p), Best(task.x)
    for part in _parts(task, p, first.scores[0]):
        steps = averaged(part.steps, p.gradient_samples) if p.gradient_samples > 1 else part.steps
        found = yield from steps
        best.steps += found.steps
        # What the nearest boundary is behind may be further away than allowed.
        pixels = budget.project(found.pixels)
        answer = yield Pass(pixels[None], so_far=best.attempt)
        success = yield from task.accepts(pixels, answer.scores[0])
        best.offer(pixels, success, float(task.aim.lead(answer.scores)))
        if success:
            flags |= frozenset() if part.has_gradients else {BLACK_BOX_STRONGER}
            return replace(best.attempt(), by=part.title, flags=flags)
    return replace(best.attempt(), flags=flags)


def _parts(task: Task, p: methods.AutoAttack, scores: Tensor) -> Iterator[Part]:
    """The attacks in their order; one begins when those before it have failed."""
    # Each ends at its first success: it is then the end of all.
    task = replace(task, stop_at_success=True)
    reach, reach_l2 = p.epsilon, p.epsilon_l2
    climb = partial(methods.APGD, norm=p.norm, epsilon=reach, epsilon_l2=reach_l2, steps=p.steps)
    yield Part("APGD, cross-entropy", apgd(task, with_defaults(climb())))
    for aim in _aims(task.aim, scores, p.target_classes):
        loss = methods.ATTACK_LOSS_DLR if len(scores) > 3 else methods.ATTACK_LOSS_CROSS_ENTROPY
        pursuing = replace(task, pursued=aim)
        yield Part("APGD, targeted", apgd(pursuing, with_defaults(climb(loss=loss))))
    yield Part("DeepFool", deep_fool(task, with_defaults(methods.DeepFool(norm=p.norm))))
    patient = methods.Square(norm=p.norm, epsilon=reach, epsilon_l2=reach_l2, queries=p.queries)
    yield Part("Square", square(task, with_defaults(patient)), has_gradients=False)


def _aims(aim: Aim, scores: Tensor, most: int) -> list[Aim]:
    """Where targeted attacks lead: to the target, or to the best classes but the original one."""
    if aim.target is not None:
        return [aim]
    order = [int(index) for index in scores.argsort(descending=True, stable=True)]
    return [Aim(aim.original, index) for index in order if index != aim.original][:most]
