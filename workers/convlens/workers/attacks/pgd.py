"""PGD: many small steps up the loss, kept within the budget."""

from convlens.v1 import attack_methods_pb2 as methods
from convlens.workers.attacks.attempt import Attempt, Best, Task
from convlens.workers.attacks.budget import Budget, budget_of
from convlens.workers.runner import Pass, Steps


def pgd(task: Task, p: methods.PGD) -> Steps[Attempt]:
    """Steps of a fixed length up the cross-entropy, projected into the budget, from some starts.

    What it returns has the largest lead it saw. Madry et al. 2017, arXiv:1706.06083, section 2.1.
    """
    budget, best = budget_of(task, p), Best(task.x)
    for start in range(p.restarts):
        if (yield from _climb(task, p, budget, best, start)):
            break
    return best.attempt()


def _climb(task: Task, p: methods.PGD, budget: Budget, best: Best, start: int) -> Steps[bool]:
    """One start; whether the attack is at its end."""
    is_random = p.random_start or start > 0
    pixels = budget.random(task.seed, "pgd", start) if is_random else task.x
    for step in range(p.steps + 1):
        # What the last step leads to needs no gradient.
        objective = task.aim.cross_entropy if step < p.steps else None
        answer = yield Pass(pixels[None], objective, so_far=best.attempt)
        success = yield from task.accepts(pixels, answer.scores[0])
        best.offer(pixels, success, float(task.aim.lead(answer.scores)))
        if success and task.stop_at_success:
            return True
        if step < p.steps:
            best.steps += 1
            way = budget.direction(answer.slope[0])
            pixels = budget.project(pixels + p.relative_step_size * budget.epsilon * way)
    return False
