"""Box-constrained L-BFGS: the smallest change, by a search over the weight of its length."""

import math

from torch import Tensor
from torch.nn import functional as F

from convlens.contract.attack_cost import LBFGS_POINTS
from convlens.v1 import attack_methods_pb2 as methods
from convlens.workers.attacks.aim import Aim
from convlens.workers.attacks.attempt import Attempt, Task
from convlens.workers.attacks.nearest import Nearest, length_of
from convlens.workers.attacks.projected_lbfgs import Bounds, projected_lbfgs
from convlens.workers.runner import Pass, Steps

# Where the value falls by less than this share of itself, the minimum is near enough.
_TOLERANCE = 1e-4


def lbfgs(task: Task, p: methods.LBFGS) -> Steps[Attempt]:
    """Minimises c |x' - x| + the cross-entropy of the target, with x' in [0, 1].

    |x' - x| is the Euclidean length. The largest c whose minimum still succeeds has the smallest
    change: c grows tenfold until one fails, or shrinks until one succeeds, and then is the
    geometric mean of the largest that succeeds and the smallest that fails. Without a target it
    aims at the runner-up, and any other class than the original one is a success. It returns the
    nearest success on the way. Szegedy et al. 2013, arXiv:1312.6199, section 4.1.
    """
    nearest = Nearest(task)
    answer = yield Pass(task.x[None], so_far=nearest.attempt)
    if (yield from nearest.consider(task.x, answer.scores[0], 0.0)):
        return nearest.attempt()
    goal = _goal(task.aim, answer.scores[0])
    succeeds, fails, c = 0.0, math.inf, p.initial_c
    for _ in range(p.search_steps):
        if (yield from _minimise(task, p, c, goal, nearest)):
            succeeds = c
        else:
            fails = c
        c = _between(succeeds, fails)
    return nearest.attempt()


def _goal(aim: Aim, scores: Tensor) -> Aim:
    """Where it leads: to the target, or to the runner-up by the scores [classes] of x."""
    if aim.target is not None:
        return aim
    others = scores.clone()
    others[aim.original] = -math.inf
    return Aim(aim.original, int(others.argmax()))


def _between(succeeds: float, fails: float) -> float:
    """The next c, for the largest that succeeds and the smallest that fails."""
    if math.isinf(fails):
        return 10 * succeeds
    return math.sqrt(succeeds * fails) if succeeds else fails / 10


def _minimise(task: Task, p: methods.LBFGS, c: float, goal: Aim, nearest: Nearest) -> Steps[bool]:
    """Goes down from the nearest success, or from x, for one c.

    The c succeeds where the minimum does, or where the first of all successes was on the way.
    """
    x = task.x.double() if p.double_precision else task.x
    bounds = Bounds(*task.bounds)
    had_success = nearest.success
    start = (nearest.pixels if had_success else task.x).to(x.dtype)
    search = projected_lbfgs(start, bounds, p.memory, p.steps, _TOLERANCE)
    place, least, lowest = next(search), math.inf, None
    # Most iterations ask for one point; those that search for a step ask for more.
    for _ in range(LBFGS_POINTS * p.steps):
        pixels = place.to(task.x.dtype)
        answer = yield Pass(pixels[None], goal.cross_entropy, so_far=nearest.attempt)
        nearest.steps += 1
        change = place - x
        distance = length_of(change)
        if distance < nearest.distance:
            yield from nearest.consider(pixels, answer.scores[0], distance)
        value = c * distance + _loss(answer.scores[0], goal)
        if value < least:
            least, lowest = value, (pixels, answer.scores[0])
        slope = answer.slope[0].to(x.dtype).neg()
        gradient = _with_length(slope, c, change, distance, bounds.holds(place, slope))
        try:
            place = search.send((value, gradient))
        except StopIteration:
            break
    if nearest.success and not had_success:
        return True
    return lowest is not None and (yield from task.accepts(*lowest))


def _loss(scores: Tensor, goal: Aim) -> float:
    """The cross-entropy of the target, for scores [classes], in double precision."""
    return -float(F.log_softmax(scores.double(), dim=0)[goal.target])


def _with_length(slope: Tensor, c: float, change: Tensor, distance: float, held: Tensor) -> Tensor:
    """The gradient of the loss and of c times the length.

    At x the length has a kink: there it is the shortest of all subgradients, minus which the way
    down is steepest. It is 0 where the length rises faster than the loss falls.
    """
    if distance > 0:
        return slope.add_(change, alpha=c / distance)
    steepness = length_of(slope * ~held)
    return slope * (max(0.0, 1 - c / steepness) if steepness else 0.0)
