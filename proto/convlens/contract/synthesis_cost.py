"""What a synthesis asks of a network at most, in passes of one picture, before it is begun."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from convlens.contract.cost import FORWARD, GRADIENT, Passes
from convlens.v1 import receipt_pb2
from convlens.v1 import synthesis_methods_pb2 as methods
from convlens.v1 import synthesis_pb2 as pb

# Of a picture at the end: what the network says of its pixels, and of those in 8 bits.
AROUND = FORWARD * 2


def synthesis_cost(request: pb.SynthesizeRequest, classes: int) -> receipt_pb2.Cost:
    """The cost of a request with every default filled in, for a network of so many classes.

    Pictures that are done early cost less, and so does going on from a checkpoint.
    """
    name = request.method.WhichOneof("method")
    assert name
    p = getattr(request.method, name)
    total = METHODS[name](p, classes) + AROUND * picture_count(request, classes)
    return receipt_pb2.Cost(forward_passes=total.forward, backward_passes=total.backward)


def picture_count(request: pb.SynthesizeRequest, classes: int) -> int:
    """How many pictures are asked for."""
    match request.method.WhichOneof("method"):
        case "inversion":
            return request.method.inversion.reconstructions
        case "fooling":
            return len(request.method.fooling.targets) or classes
        case _:
            return 1


def steps_of(method: methods.SynthesisMethod) -> int:
    """Steps or generations of a method at most."""
    match method.WhichOneof("method"):
        case "class_model":
            return method.class_model.steps
        case "unit_maximization":
            return method.unit_maximization.steps
        case "inversion":
            return method.inversion.steps
        case _:
            return _fooling_steps(method.fooling)


def spending_of(method: methods.SynthesisMethod) -> Sequence[str]:
    """The parameters that a method's cost grows with."""
    match method.WhichOneof("method"):
        case "inversion":
            return ("steps", "reconstructions")
        case "fooling":
            by_gradient = method.fooling.HasField("gradient")
            return ("steps", "targets") if by_gradient else ("evaluations",)
        case _:
            return ("steps",)


def _fooling_steps(p: methods.Fooling) -> int:
    match p.WhichOneof("encoding"):
        case "gradient":
            return p.gradient.steps
        case "direct":
            return p.direct.evaluations // p.direct.offspring
        case _:
            return p.cppn.evaluations // p.cppn.offspring


def raise_steps(method: methods.SynthesisMethod, done: int) -> None:
    """Writes into a method the steps or generations that were done, where they are more."""
    if done <= steps_of(method):
        return
    name = method.WhichOneof("method")
    assert name
    p = getattr(method, name)
    if name == "fooling":
        p = getattr(p, p.WhichOneof("encoding") or "cppn")
    if isinstance(p, methods.FoolingDirect | methods.FoolingCppn):
        p.evaluations = done * p.offspring
    else:
        p.steps = done


def _ascent(p: "methods.ClassModel | methods.UnitMaximization", classes: int) -> Passes:
    # Where rectifiers block the gradient, the first steps ask twice.
    return GRADIENT * (p.steps + min(p.steps, p.priors.redirect_steps)) + FORWARD


def _inversion(p: methods.Inversion, classes: int) -> Passes:
    return (GRADIENT * p.steps + FORWARD * 2) * p.reconstructions


def _fooling(p: methods.Fooling, classes: int) -> Passes:
    match p.WhichOneof("encoding"):
        case "gradient":
            return (GRADIENT * p.gradient.steps + FORWARD) * (len(p.targets) or classes)
        case "direct":
            return _generations(p.direct)
        case _:
            return _generations(p.cppn)


def _generations(p: "methods.FoolingDirect | methods.FoolingCppn") -> Passes:
    return FORWARD * p.evaluations


METHODS: Mapping[str, Callable[[Any, int], Passes]] = {
    "class_model": _ascent,
    "unit_maximization": _ascent,
    "inversion": _inversion,
    "fooling": _fooling,
}
