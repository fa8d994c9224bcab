"""What the plan of an evaluation means: which attack is measured at which budgets."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import cast

from convlens.contract.attack_cost import attack_cost
from convlens.contract.attacks import has_budget, norm_of, parameters_of
from convlens.contract.rules import title_of
from convlens.contract.validation import Violation, check, invalid
from convlens.v1 import adversarial_pb2 as pb
from convlens.v1 import attack_methods_pb2 as methods
from convlens.v1 import image_pb2
from convlens.v1.receipt_pb2 import Cost

# The field of a plan that holds the budgets of each norm.
FIELDS = {methods.NORM_LINF: "epsilons", methods.NORM_L2: "epsilons_l2"}


def budgets_of(plan: pb.RobustnessPlan, norm: methods.Norm.ValueType) -> Sequence[float]:
    """The budgets of a plan under a norm, from the smallest to the largest."""
    return cast("Sequence[float]", getattr(plan, FIELDS[norm]))


def check_plan(plan: pb.RobustnessPlan) -> None:
    """Raises Failure INVALID_REQUEST where a plan, every default filled in, means nothing."""
    check(plan, "plan.")
    if broken := list(_violations(plan)):
        raise invalid(broken)


def _violations(plan: pb.RobustnessPlan) -> Iterator[Violation]:
    asked = {norm_of(method): method for method in reversed(plan.attacks)}
    for norm, field in FIELDS.items():
        budgets = budgets_of(plan, norm)
        for index, (smaller, larger) in enumerate(pairwise(budgets)):
            if not larger > smaller:
                words = f"is {larger}; must be larger than the one before, {smaller}"
                yield Violation(field=f"plan.{field}[{index + 1}]", description=words)
        if norm in asked and not budgets:
            title = title_of(parameters_of(asked[norm]))
            words = f"is empty; {title} is measured under {methods.Norm.Name(norm)}"
            yield Violation(field=f"plan.{field}", description=words)
        if budgets and norm not in asked:
            words = f"are budgets under {methods.Norm.Name(norm)}, of which no attack is"
            yield Violation(field=f"plan.{field}", description=words)


def robustness_cost(plan: pb.RobustnessPlan, classes: int) -> Cost:
    """What one image may cost at most; every default is filled in.

    An attack that fails under a budget is tried under the next larger one.
    """
    # The image itself is asked about once.
    total = Cost(forward_passes=1)
    for method in plan.attacks:
        request = pb.AttackRequest(
            images=[image_pb2.Image()],
            method=method,
            until_rounded_succeeds=plan.require_rounded,
        )
        once = attack_cost(request, classes)
        times = len(budgets_of(plan, norm_of(method))) if has_budget(method) else 1
        total.forward_passes += (once.forward_passes - 1) * times
        total.backward_passes += once.backward_passes * times
    return total
