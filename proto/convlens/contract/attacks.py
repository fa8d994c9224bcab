"""What is the same of several attacks: how they measure a change, and how far they may go."""

from typing import Any, cast

from google.protobuf.message import Message

from convlens.contract.validation import Violation, invalid
from convlens.v1 import attack_methods_pb2 as methods

# The field of a budget under each norm.
BUDGETS = {methods.NORM_LINF: "epsilon", methods.NORM_L2: "epsilon_l2"}


def parameters_of(method: methods.AttackMethod) -> Message:
    """The parameters of an attack."""
    name = method.WhichOneof("method")
    assert name
    return cast(Message, getattr(method, name))


def has_budget(method: methods.AttackMethod) -> bool:
    """Whether an attack works within a budget; else it looks for the smallest change."""
    return "epsilon" in parameters_of(method).DESCRIPTOR.fields_by_name


def norm_of(method: methods.AttackMethod) -> methods.Norm.ValueType:
    """The norm in which an attack measures its change; every default is filled in."""
    parameters: Any = parameters_of(method)
    if "norm" in parameters.DESCRIPTOR.fields_by_name:
        return parameters.norm
    return methods.NORM_LINF if has_budget(method) else methods.NORM_L2


def within(method: methods.AttackMethod, epsilon: float) -> methods.AttackMethod:
    """The same attack under another budget; epsilon in the unit of its norm."""
    changed = methods.AttackMethod()
    changed.CopyFrom(method)
    setattr(parameters_of(changed), BUDGETS[norm_of(method)], epsilon)
    return changed


def check_budget(method: methods.AttackMethod, path: str) -> None:
    """Raises Failure INVALID_REQUEST where the budget that is given is that of another norm.

    No default is filled in yet. `path` is where the method stands in the request.
    """
    parameters, own = parameters_of(method), norm_of(method) or methods.NORM_LINF
    for norm, field in BUDGETS.items():
        known = field in parameters.DESCRIPTOR.fields_by_name
        if norm != own and known and parameters.HasField(field):
            name, wanted = methods.Norm.Name(norm), methods.Norm.Name(own)
            words = f"is the budget under {name}; set norm to {name}, or give {BUDGETS[own]}"
            words += f", that under {wanted}, which holds here"
            where = f"{path}.{method.WhichOneof('method')}.{field}"
            raise invalid([Violation(field=where, description=words)])


def without_other_budgets(method: methods.AttackMethod) -> None:
    """Clears the budgets of other norms, which defaults have filled in."""
    parameters, own = parameters_of(method), norm_of(method)
    for norm, field in BUDGETS.items():
        if norm != own and field in parameters.DESCRIPTOR.fields_by_name:
            parameters.ClearField(field)
