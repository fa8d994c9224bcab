"""What a request asks of a network at most, in passes of one image, before anything is computed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from google.protobuf.message import Message

from convlens.contract.geometry import audited_count, window_count
from convlens.contract.measures import WITHOUT_TARGET, misfit
from convlens.v1 import explanation_methods_pb2 as methods
from convlens.v1 import explanation_pb2, network_pb2, quality_pb2, receipt_pb2


@dataclass(frozen=True)
class Passes:
    """Passes of one image, forward and backward."""

    forward: int = 0
    backward: int = 0

    def __add__(self, other: "Passes") -> "Passes":
        return Passes(self.forward + other.forward, self.backward + other.backward)

    def __mul__(self, times: int) -> "Passes":
        return Passes(self.forward * times, self.backward * times)


FORWARD = Passes(forward=1)
GRADIENT = Passes(forward=1, backward=1)


def explain_cost(
    request: explanation_pb2.ExplainRequest, network: network_pb2.Network
) -> receipt_pb2.Cost:
    """The cost of a request with every default filled in, for the network that answers it.

    Methods that end early cost less. What several ask at the same points is
    counted for each, though it is computed once.
    """
    # The scores of the picture name the prediction, and every reply has its target's.
    image = FORWARD
    for wanted in request.methods:
        targets = 1 if target_free(wanted) else max(1, len(request.targets))
        once = method_passes(wanted, network)
        image += once * targets
        for measure in request.measures:
            image += _measure_passes(measure, wanted, once) * targets
    total = image * len(request.images)
    return receipt_pb2.Cost(forward_passes=total.forward, backward_passes=total.backward)


def target_free(wanted: methods.ExplanationMethod) -> bool:
    """Whether the method knows no targets."""
    return wanted.WhichOneof("method") in WITHOUT_TARGET


def method_passes(wanted: methods.ExplanationMethod, network: network_pb2.Network) -> Passes:
    """The passes of a method for one picture and one target."""
    name = wanted.WhichOneof("method")
    assert name
    return METHODS[name](getattr(wanted, name), network)


def most_steps(p: methods.IntegratedGradients) -> int:
    """The midpoints that Integrated Gradients uses where its tolerance is never met."""
    steps = p.steps
    while 3 * steps <= p.max_steps:
        steps *= 3
    return steps


def _smooth_grad(p: methods.SmoothGrad, _: network_pb2.Network) -> Passes:
    return GRADIENT * p.samples


def _integrated_gradients(p: methods.IntegratedGradients, _: network_pb2.Network) -> Passes:
    return FORWARD * 2 + GRADIENT * most_steps(p)


def _deconvnet(p: methods.Deconvnet, _: network_pb2.Network) -> Passes:
    return FORWARD + GRADIENT * (1 if p.HasField("map_index") else p.strongest)


def _occlusion(p: methods.Occlusion, network: network_pb2.Network) -> Passes:
    windows = window_count(p, network.input.height, network.input.width)
    audited = audited_count(windows) if p.projective_threshold < 1 else 0
    return FORWARD * (1 + windows + audited)


def _constant(passes: Passes) -> Callable[[Any, network_pb2.Network], Passes]:
    return lambda p, network: passes


METHODS: Mapping[str, Callable[[Any, network_pb2.Network], Passes]] = {
    "saliency": _constant(GRADIENT),
    "input_x_gradient": _constant(GRADIENT),
    "smooth_grad": _smooth_grad,
    "integrated_gradients": _integrated_gradients,
    "guided_backprop": _constant(GRADIENT),
    "deconvnet": _deconvnet,
    "occlusion": _occlusion,
    "grad_cam": _constant(GRADIENT),
    "guided_grad_cam": _constant(GRADIENT * 2),
    "activations": _constant(FORWARD),
    "filters": _constant(Passes()),
    "dense_map": _constant(FORWARD),
}


def _measure_passes(
    measure: quality_pb2.QualityMeasure, wanted: methods.ExplanationMethod, once: Passes
) -> Passes:
    """The passes of a measure for one map of a method that costs `once`."""
    if misfit(measure, wanted):
        return Passes()
    name = measure.WhichOneof("measure")
    p = cast(Message, getattr(measure, name)) if name else None
    if isinstance(p, quality_pb2.Deletion | quality_pb2.Insertion):
        return FORWARD * (p.steps + 1)
    if isinstance(p, quality_pb2.Completeness):
        # Integrated Gradients knows the scores at both ends.
        return FORWARD * (0 if wanted.HasField("integrated_gradients") else 2)
    if isinstance(p, quality_pb2.MaxSensitivity):
        return once * p.samples
    if isinstance(p, quality_pb2.ModelRandomization):
        return once
    return Passes()
