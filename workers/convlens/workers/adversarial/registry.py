"""The attacks that there are, by their names in the contract."""

from collections.abc import Callable, Mapping
from typing import Any

from google.protobuf.message import Message

from convlens.contract.rules import title_of
from convlens.v1 import attack_methods_pb2 as methods
from convlens.workers.attacks import Attempt, Task
from convlens.workers.attacks.apgd import apgd, check_classes
from convlens.workers.attacks.auto_attack import auto_attack
from convlens.workers.attacks.budget import Budget, Linf, budget_of
from convlens.workers.attacks.carlini_wagner import carlini_wagner
from convlens.workers.attacks.deep_fool import deep_fool
from convlens.workers.attacks.fgsm import fgsm
from convlens.workers.attacks.lbfgs import lbfgs
from convlens.workers.attacks.pgd import pgd
from convlens.workers.attacks.square import square
from convlens.workers.explain import Subject
from convlens.workers.runner import Steps

ATTACKS: Mapping[str, Callable[[Task, Any], Steps[Attempt]]] = {
    "fgsm": fgsm,
    "pgd": pgd,
    "apgd": apgd,
    "deep_fool": deep_fool,
    "carlini_wagner": carlini_wagner,
    "lbfgs": lbfgs,
    "square": square,
    "auto_attack": auto_attack,
}


class Attack:
    """An attack with its parameters, every default filled in."""

    def __init__(self, method: methods.AttackMethod) -> None:
        name = method.WhichOneof("method")
        assert name
        self.name = name
        self.p: Message = getattr(method, name)
        self.title = title_of(self.p)

    def check(self, subject: Subject, is_targeted: bool, field: str) -> None:
        """Raises Failure INVALID_REQUEST where a network has too few classes for it.

        And METHOD_NOT_APPLICABLE where it has no gradients. `field` is where the method stands in
        the request.
        """
        if not isinstance(self.p, methods.Square):
            subject.check_gradients(self.title, "Square")
        classes = len(subject.network.labels)
        if isinstance(self.p, methods.APGD):
            check_classes(self.p, classes, is_targeted, f"{field}.{self.name}")

    def begin(self, task: Task) -> Steps[Attempt]:
        """The attack at work on one picture."""
        return ATTACKS[self.name](task, self.p)

    def budget(self, task: Task) -> Budget | None:
        """How far it may go; None where it looks for the smallest change."""
        if isinstance(self.p, methods.FGSM):
            return Linf(task, self.p.epsilon)
        return budget_of(task, self.p) if "epsilon" in self.p.DESCRIPTOR.fields_by_name else None
