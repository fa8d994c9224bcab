"""FGSM: one step along the sign of the gradient."""

from convlens.v1 import attack_methods_pb2 as methods
from convlens.workers.attacks.attempt import Attempt, Task
from convlens.workers.attacks.budget import Linf
from convlens.workers.runner import Pass, Steps


def fgsm(task: Task, p: methods.FGSM) -> Steps[Attempt]:
    """Moves every value of x by epsilon, up the cross-entropy of the original class or down that
    of the target.

    Goodfellow et al. 2014, arXiv:1412.6572, section 4.
    """
    budget = Linf(task, p.epsilon)
    answer = yield Pass(task.x[None], task.aim.cross_entropy)
    pixels = budget.project(task.x + p.epsilon * budget.direction(answer.slope[0]))
    answer = yield Pass(pixels[None])
    success = yield from task.accepts(pixels, answer.scores[0])
    return Attempt(pixels, 1, success)
