"""Filters: the learned weights of a convolution."""

from dataclasses import dataclass

from torch import Tensor, nn

from convlens.contract import ErrorReason, Failure
from convlens.v1 import explanation_methods_pb2 as methods
from convlens.workers.anatomy import INPUT, Call, Node, Trace
from convlens.workers.anatomy.arguments import operand

# What is done to pixels before the first convolution: channels scaled, and taken apart for that.
_SCALING = frozenset(
    {"add", "sub", "mul", "div", "batch_norm", "to", "getitem", "unsqueeze", "cat"}
)


@dataclass(frozen=True)
class FiltersResult:
    """The first filters of a convolution [filters, planes, height, width], of `available` ones.

    `colour` says that the planes are the channels of pixels.
    """

    filters: Tensor
    available: int
    colour: bool


def filters(
    module: nn.Module, trace: Trace, name: str, p: methods.Filters, network: str
) -> FiltersResult:
    """The first `p.count` filters of the convolution `name` in the module of a trace.

    Where it sees pixels, all their channels are shown, else the first `p.planes` of the maps that
    each filter sees. Raises Failure LAYER_NOT_APPLICABLE, which names `network`, for a layer
    that is no convolution. Krizhevsky et al. 2012, NIPS, section 6.1.
    """

    def unfit(detail: str) -> Failure:
        reason = ErrorReason.ERROR_REASON_LAYER_NOT_APPLICABLE
        return Failure(reason, network=network, layer=repr(name), detail=detail)

    call = _convolution(trace, trace.nodes[name])
    if call is None:
        raise unfit("it is no convolution over maps; choose a layer of kind Conv2d")
    parameter = operand(call, 1, "weight").parameter
    if parameter is None:
        raise unfit("its weights are computed anew in each pass")
    weights = _tensor(module, parameter).detach()
    colour = _sees_pixels(trace, call)
    planes = weights.shape[1] if colour else p.planes
    return FiltersResult(weights[: p.count, :planes].clone(), len(weights), colour)


def _convolution(trace: Trace, node: Node) -> Call | None:
    """The call whose filters are a layer's own; None where it is something else, or several."""
    calls = trace.calls[node.calls.start : node.calls.stop]
    found = [call for call in calls if call.function == "conv2d"]
    return found[0] if len(found) == 1 and found[0].index == node.call else None


def _tensor(module: nn.Module, name: str) -> Tensor:
    """A parameter or buffer by its name in a module."""
    path, _, own = name.rpartition(".")
    return getattr(module.get_submodule(path), own)


def _sees_pixels(trace: Trace, call: Call) -> bool:
    """Whether each filter sees all channels of the picture, with nothing but a change of scale."""
    if operand(call, 1, "weight").batch_shape[1] != trace.image[0]:
        return False
    waiting = [operand(call, 0, "input").source]
    while waiting:
        source = waiting.pop()
        if source is None or source == INPUT:
            continue
        before = trace.calls[source]
        if before.function not in _SCALING:
            return False
        waiting.extend(value.source for value in before.operands if value.axis is not None)
    return True
