"""One image under one attack, at the budgets of a plan."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from convlens.contract import Failure
from convlens.contract.attacks import has_budget, norm_of, within
from convlens.contract.robustness import budgets_of
from convlens.v1 import adversarial_pb2 as pb
from convlens.v1 import attack_methods_pb2 as methods
from convlens.workers.adversarial.attacking import Attacking
from convlens.workers.adversarial.registry import Attack
from convlens.workers.adversarial.verdict import (
    Judged,
    distance,
    flags_of,
    reached,
    rounded_distance,
)
from convlens.workers.adversarial.view import View
from convlens.workers.adversarial.watching import Watched
from convlens.workers.attacks import Aim, Task
from convlens.workers.body import Body
from convlens.workers.runner import Steps, side_by_side

# Steps of 1/255 differ from what they are by this little.
SLACK = 1e-12


class Trial:
    """An attack on an image that the network answers rightly; `clean` is what it says of it.

    What fools it within a budget does so within every larger one: an attack is tried at one budget
    after the other until it succeeds. FGSM, for which one gradient serves all, is tried at all of
    them at once. An attack that looks for the smallest change is run once.
    """

    def __init__(
        self,
        plan: pb.RobustnessPlan,
        method: methods.AttackMethod,
        view: View,
        network: Body,
        task: Task,
        clean: Judged,
    ) -> None:
        self._method = method
        self._view = view
        self._network = network
        self._task = task
        self._clean = clean
        self._is_rounded = plan.require_rounded
        self._norm = norm_of(method)
        self._budgets = budgets_of(plan, self._norm)
        #: The smallest budget that is enough, if one is.
        self.smallest = pb.SmallestBudget()
        #: Within each budget, the least probability of the true class that was found.
        self.least = [certainty_of(clean.aim, clean.before)] * len(self._budgets)

    def run(self) -> Steps[None]:
        """Fills in the smallest budget and the probabilities."""
        if not has_budget(self._method):
            judged = yield from self._attack(self._method)
            self._take(judged, bisect_left(self._budgets, self._length(judged)))
            return
        for indices in self._rounds():
            tried = [within(self._method, self._budgets[index]) for index in indices]
            found = yield from side_by_side([self._attack(method) for method in tried])
            for index, judged in zip(indices, found, strict=True):
                if isinstance(judged, Failure):
                    raise judged
                self._take(judged, index)
            if self.smallest.HasField("epsilon"):
                return

    def _rounds(self) -> Sequence[Sequence[int]]:
        """The budgets that are tried side by side."""
        every = range(len(self._budgets))
        return [every] if self._method.HasField("fgsm") else [[index] for index in every]

    def _attack(self, method: methods.AttackMethod) -> Steps[Judged]:
        clean = replace(self._clean, watched=Watched(self._view.body))
        attacking = Attacking(Attack(method), self._view, self._network, self._is_rounded)
        return (yield from attacking.run(self._task, clean))

    def _take(self, judged: Judged, first: int) -> None:
        """Takes what an attack found within the budget of that index, and all larger ones."""
        for flag in flags_of(judged):
            if flag not in self.smallest.flags:
                self.smallest.flags.append(flag)
        scores = judged.after_rounding if self._is_rounded else judged.after
        if scores is None:
            return
        found = certainty_of(judged.aim, scores)
        self.least[first:] = [min(found, least) for least in self.least[first:]]
        if not reached(judged.aim, scores):
            return
        if not self.smallest.HasField("distance"):
            self.smallest.distance.CopyFrom(self._distance(judged))
            if first < len(self._budgets):
                self.smallest.epsilon = self._budgets[first]

    def _length(self, judged: Judged) -> float:
        """How far the attack went, in its norm."""
        change = self._distance(judged)
        length = change.linf if self._norm == methods.NORM_LINF else change.l2
        return length - SLACK if self._is_rounded else length

    def _distance(self, judged: Judged) -> pb.Distance:
        if self._is_rounded:
            return rounded_distance(judged)
        return distance(judged.attempt.pixels, judged.x)


def certainty_of(aim: Aim, scores: Tensor) -> float:
    """The probability of the true class, for scores [classes]."""
    return float(scores.softmax(dim=0)[aim.original])
