"""What an attack asks of a network at most, in passes of one image, before anything is computed."""

from collections.abc import Callable, Mapping
from typing import Any

from convlens.contract import with_defaults
from convlens.contract.cost import FORWARD, GRADIENT, Passes
from convlens.v1 import adversarial_pb2 as pb
from convlens.v1 import attack_methods_pb2 as methods
from convlens.v1 import receipt_pb2

# L-BFGS asks for so many points in each iteration at most, on average over its iterations.
LBFGS_POINTS = 2
# Of an image: its scores before, and those of what was found, as it is and in 8 bits.
AROUND = FORWARD * 3


def attack_cost(request: pb.AttackRequest, classes: int) -> receipt_pb2.Cost:
    """The cost of a request with every default filled in, for a network of so many classes.

    Images that are done early cost less.
    """
    name = request.method.WhichOneof("method")
    assert name
    once = ATTACKS[name](getattr(request.method, name), request, classes)
    if request.until_rounded_succeeds:
        # Whatever succeeds is asked about once more, in 8 bits.
        once += FORWARD * once.forward
    total = (AROUND + once) * len(request.images)
    return receipt_pb2.Cost(forward_passes=total.forward, backward_passes=total.backward)


def is_targeted(goal: pb.AttackGoal) -> bool:
    """Whether a goal names one class."""
    return goal.WhichOneof("goal") in ("target", "least_likely")


def _fgsm(p: methods.FGSM, request: pb.AttackRequest, classes: int) -> Passes:
    return GRADIENT + FORWARD


def _climbing(p: "methods.PGD | methods.APGD", request: pb.AttackRequest, classes: int) -> Passes:
    return (GRADIENT * p.steps + FORWARD) * p.restarts


def _deep_fool(p: methods.DeepFool, request: pb.AttackRequest, classes: int) -> Passes:
    boundaries = 1 if is_targeted(request.goal) else min(p.candidates, classes) - 1
    return FORWARD * (p.steps + 1) + GRADIENT * (p.steps * boundaries)


def _carlini_wagner(p: methods.CarliniWagner, request: pb.AttackRequest, classes: int) -> Passes:
    # A step asks for the scores alone where it hopes to need no gradient, and may be wrong.
    return GRADIENT + (FORWARD + GRADIENT) * (p.search_steps * p.steps)


def _lbfgs(p: methods.LBFGS, request: pb.AttackRequest, classes: int) -> Passes:
    # The minimum for a value of c may be asked about once more, with what its pixels come to.
    return FORWARD + (GRADIENT * (LBFGS_POINTS * p.steps) + FORWARD) * p.search_steps


def _square(p: methods.Square, request: pb.AttackRequest, classes: int) -> Passes:
    return FORWARD * (p.queries * p.restarts)


def _auto(p: methods.AutoAttack, request: pb.AttackRequest, classes: int) -> Passes:
    climb = with_defaults(methods.APGD(steps=p.steps))
    aims = 1 if is_targeted(request.goal) else min(p.target_classes, classes - 1)
    climbs = _climbing(climb, request, classes) * (1 + aims)
    nearest = _deep_fool(with_defaults(methods.DeepFool()), request, classes)
    white = climbs + nearest
    drawn = Passes(white.forward + white.backward * (p.gradient_samples - 1), 0)
    backward = Passes(0, white.backward * p.gradient_samples)
    # What each of them found is asked about again, and the picture twice at first.
    return drawn + backward + FORWARD * (p.queries + 2 + 1 + aims + 2)


ATTACKS: Mapping[str, Callable[[Any, pb.AttackRequest, int], Passes]] = {
    "fgsm": _fgsm,
    "pgd": _climbing,
    "apgd": _climbing,
    "deep_fool": _deep_fool,
    "carlini_wagner": _carlini_wagner,
    "lbfgs": _lbfgs,
    "square": _square,
    "auto_attack": _auto,
}
