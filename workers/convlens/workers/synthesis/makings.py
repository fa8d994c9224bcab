"""What each method of the contract makes: how it begins, and what its pictures are for."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from convlens.contract.fooling import check_generations
from convlens.contract.rules import title_of
from convlens.v1 import network_pb2
from convlens.v1 import synthesis_methods_pb2 as methods
from convlens.workers.explain import Subject
from convlens.workers.numbers import numbers_in
from convlens.workers.pictures import Picture
from convlens.workers.runner import Steps
from convlens.workers.synthesis.canvas import MOST_CHECKPOINT_BYTES
from convlens.workers.synthesizers import Growth, Task
from convlens.workers.synthesizers.class_model import class_model
from convlens.workers.synthesizers.code import SCORES, code_at
from convlens.workers.synthesizers.fooling_cppn import check_archive, fooling_cppn
from convlens.workers.synthesizers.fooling_direct import fooling_direct
from convlens.workers.synthesizers.fooling_gradient import fooling_gradient
from convlens.workers.synthesizers.inversion import inversion
from convlens.workers.synthesizers.parametrization import check_priors
from convlens.workers.synthesizers.unit_maximization import aim, unit_maximization
from convlens.workers.targets import Targets


@dataclass(frozen=True, slots=True)
class Making:
    """One method at work: how it begins, and the class of each picture where it is for one."""

    begin: Callable[[Task, Picture | None], Steps[Growth]]
    targets: Sequence[int | None]


def makings_of(method: methods.SynthesisMethod, subject: Subject) -> list[Making]:
    """The parts of a method that are at work side by side; every default is filled in.

    Raises Failure where the network or the parameters do not fit, before anything is computed.
    """
    name = method.WhichOneof("method")
    assert name
    p = getattr(method, name)
    title = title_of(p)
    if subject.network.facts.kind == network_pb2.NETWORK_KIND_LINEAR:
        raise subject.unfit(title, "it takes plain numbers, and no pictures")
    if not _is_evolution(method):
        subject.check_gradients(title, "fooling images by evolution")
    return MAKERS[name](p, subject)


def _is_evolution(method: methods.SynthesisMethod) -> bool:
    return method.fooling.WhichOneof("encoding") in ("direct", "cppn")


def _class_model(p: methods.ClassModel, subject: Subject) -> list[Making]:
    check_priors(p.priors, subject.shape[0], "method.class_model.priors")
    [target] = _classes([p.target], subject, "method.class_model.target")
    return [Making(lambda task, _: class_model(task, target, p), [target])]


def _classes(targets: Any, subject: Subject, path: str) -> list[int]:
    return Targets(targets, subject.network.labels, path).fixed()


def _unit_maximization(p: methods.UnitMaximization, subject: Subject) -> list[Making]:
    path = "method.unit_maximization"
    check_priors(p.priors, subject.shape[0], f"{path}.priors")
    layer = subject.map_layer(p.layer)
    wish = aim(layer, p, path)
    return [Making(lambda task, _: unit_maximization(task, layer, wish, p), [None])]


def _inversion(p: methods.Inversion, subject: Subject) -> list[Making]:
    selected = None if p.layer in SCORES else subject.layer(p.layer)
    network = subject.network
    code = code_at(p.layer, selected, network.trace, len(network.labels))
    if p.HasField("code"):
        code = code.as_given(numbers_in(p.code, "method.inversion.code"))

    def begin(task: Task, picture: Picture | None) -> Steps[Growth]:
        return inversion(task, code.of(picture.x) if picture else code, p)

    return [Making(begin, [None])] * p.reconstructions


def _fooling(p: methods.Fooling, subject: Subject) -> list[Making]:
    check_generations(p, "method.fooling")
    classes, sure = range(len(subject.network.labels)), p.confidence
    targets = _classes(p.targets, subject, "method.fooling.targets[{}]") if p.targets else classes
    match p.WhichOneof("encoding"):
        case "gradient":
            return [_fooled(p, target) for target in targets]
        case "direct":
            return [Making(lambda task, _: fooling_direct(task, targets, sure, p.direct), targets)]
        case _:
            check_archive(p.cppn, len(targets), MOST_CHECKPOINT_BYTES, "method.fooling.cppn")
            return [Making(lambda task, _: fooling_cppn(task, targets, sure, p.cppn), targets)]


def _fooled(p: methods.Fooling, target: int) -> Making:
    def begin(task: Task, _: Picture | None) -> Steps[Growth]:
        return fooling_gradient(task, target, p.confidence, p.gradient)

    return Making(begin, [target])


MAKERS: Mapping[str, Callable[[Any, Subject], list[Making]]] = {
    "class_model": _class_model,
    "unit_maximization": _unit_maximization,
    "inversion": _inversion,
    "fooling": _fooling,
}
