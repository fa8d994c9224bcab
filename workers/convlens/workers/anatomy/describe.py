"""The anatomy of a network, from one traced forward pass."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from convlens.v1 import anatomy_pb2
from convlens.workers.anatomy.costs import multiply_adds
from convlens.workers.anatomy.design import warnings
from convlens.workers.anatomy.fields import Extent, Map, maps
from convlens.workers.anatomy.grammar import grammar
from convlens.workers.anatomy.support import locatable
from convlens.workers.anatomy.values import Call, Node, Trace, Value


@dataclass(frozen=True, slots=True)
class _Findings:
    """What is known about every call."""

    trace: Trace
    maps: Sequence[Map | None]
    reversible: Sequence[bool]
    locatable: Sequence[bool]


def describe(trace: Trace, module: nn.Module, reversible: Sequence[bool]) -> anatomy_pb2.Anatomy:
    """The layers of a traced module, what they cost, and what its design is like.

    Layers are the nodes that are not looked into: torch's own modules, and functions called by the
    code of others. `reversible` says for each call whether deconvnet can go back from it.
    """
    places = maps(trace)
    findings = _Findings(trace, places, reversible, locatable(trace, places))
    counted: set[str] = set()
    nodes = [node for node in trace.nodes.values() if node.leaf]
    layers = [_layer(node, findings, counted) for node in nodes]
    outputs = [output for node in nodes for output in _new(node, trace)]
    anatomy = anatomy_pb2.Anatomy(
        layers=layers,
        parameters=sum(parameter.numel() for parameter in module.parameters()),
        multiply_adds=sum(layer.multiply_adds for layer in layers),
        activations=sum(output.size for output in outputs),
        forward_bytes=sum(layer.forward_bytes for layer in layers),
        training_bytes=sum(layer.training_bytes for layer in layers),
        warnings=warnings(trace),
        grammar=grammar(trace),
    )
    anatomy.training_memory.CopyFrom(_training(anatomy, module))
    return anatomy


def _layer(node: Node, findings: _Findings, counted: set[str]) -> anatomy_pb2.Layer:
    """One layer; `counted` are the parameters of earlier ones, and become those of this one too."""
    calls = findings.trace.calls[node.calls.start : node.calls.stop]
    outputs = _new(node, findings.trace)
    forward = sum(output.bytes for output in outputs)
    layer = anatomy_pb2.Layer(
        name=node.name,
        kind=node.kind,
        parameters=_parameters(calls, set(node.parameters) - counted),
        multiply_adds=sum(multiply_adds(call) for call in calls),
        forward_bytes=forward,
        training_bytes=2 * forward,
    )
    counted.update(node.parameters)
    shown = node.call if node.call is not None else node.calls.stop - 1
    if shown >= 0:
        layer.output_shape.extend(findings.trace.calls[shown].outputs[0].shape)
    if node.call is not None:
        _say_what_it_sees(layer, node.call, findings)
    return layer


def _say_what_it_sees(layer: anatomy_pb2.Layer, call: int, findings: _Findings) -> None:
    output = findings.trace.calls[call].outputs[0]
    layer.supports_features = output.axis is not None
    # It starts from maps, or from a vector.
    is_maps = layer.supports_features and len(output.shape) in (1, 3)
    layer.supports_deconvnet = is_maps and findings.reversible[call]
    layer.supports_grad_cam = findings.locatable[call]
    place = findings.maps[call]
    if place is not None and place.fields is not None:
        vertical, horizontal = map(_extent, place.fields)
        layer.receptive_field.vertical.CopyFrom(vertical)
        layer.receptive_field.horizontal.CopyFrom(horizontal)


def _extent(extent: Extent) -> anatomy_pb2.FieldExtent:
    return anatomy_pb2.FieldExtent(size=extent.size, jump=extent.jump, offset=extent.offset)


def _new(node: Node, trace: Trace) -> list[Value]:
    """Outputs for the picture for which a leaf needed new memory."""
    calls = trace.calls[node.calls.start : node.calls.stop]
    outputs = (output for call in calls if call.fresh for output in call.outputs)
    return [output for output in outputs if output.axis is not None]


def _parameters(calls: Sequence[Call], names: set[str]) -> int:
    """How many numbers there are in the parameters of these names."""
    operands = (operand for call in calls for operand in call.operands)
    sizes = {operand.parameter: operand.size for operand in operands if operand.parameter in names}
    return sum(sizes.values())


def _training(anatomy: anatomy_pb2.Anatomy, module: nn.Module) -> anatomy_pb2.TrainingMemory:
    learned = sum(parameter.nbytes for parameter in module.parameters())
    return anatomy_pb2.TrainingMemory(
        activation_bytes=anatomy.forward_bytes,
        activation_gradient_bytes=anatomy.training_bytes - anatomy.forward_bytes,
        parameter_bytes=learned,
        parameter_gradient_bytes=learned,
        momentum_bytes=learned,
    )
