"""Where Grad-CAM looks by default: the last maps that the whole of the answer passes through."""

from collections.abc import Iterator

from convlens.workers.anatomy.costs import multiply_adds
from convlens.workers.anatomy.fields import maps
from convlens.workers.anatomy.support import locatable
from convlens.workers.anatomy.values import INPUT, Call, Trace


def last_bottleneck(trace: Trace) -> str | None:
    """The name of the last layer with maps through which every path to the result passes.

    The last convolution may be a branch of several. None where there is no such layer, or where
    most of the network follows it: the first maps of a vision transformer are cut into tokens,
    which go on holding places.
    """
    names = _names(trace)
    fits = locatable(trace, maps(trace))
    last = next((call for call in bottlenecks(trace) if fits[call] and call in names), None)
    return names[last] if last is not None and _is_late(trace, last) else None


def bottlenecks(trace: Trace) -> Iterator[int]:
    """The calls through which every path from the input to the result passes, the last one first.

    Calls are numbered as they are computed, so a path that avoids one has a step across its number.
    """
    sources = _sources(trace)
    if trace.result not in sources:
        return
    heard, lowest = {trace.result}, trace.result
    for index in range(trace.result, INPUT, -1):
        if index not in heard:
            continue
        if lowest >= index:
            yield index
        heard |= sources[index]
        lowest = min(lowest, *sources[index])


def _sources(trace: Trace) -> dict[int, set[int]]:
    """What comes directly into each call that the input reaches: other such calls, or INPUT."""
    found: dict[int, set[int]] = {}
    for call in trace.calls:
        came = {source for source in _taken(trace, call) if source == INPUT or source in found}
        if came:
            found[call.index] = came
    return found


def _taken(trace: Trace, call: Call) -> Iterator[int]:
    for value in call.operands:
        if value.axis is None or value.source is None:
            continue
        yield value.source
        if value.source == INPUT:
            continue
        # A tensor of which a part was written to holds more than that call gave; from where, the
        # trace does not tell.
        if value.size not in {output.size for output in trace.calls[value.source].outputs}:
            yield INPUT


def _names(trace: Trace) -> dict[int, str]:
    """The name of each call that is a layer's own: that which GetNetwork lists, if any."""
    nodes = sorted(trace.nodes.values(), key=lambda node: not node.leaf)
    names: dict[int, str] = {}
    for node in nodes:
        if node.call is not None:
            names.setdefault(node.call, node.name)
    return names


def _is_late(trace: Trace, last: int) -> bool:
    """Whether most of the work on what holds places is done up to a call."""
    work = [multiply_adds(call) if _holds_places(call) else 0 for call in trace.calls]
    return sum(work[: last + 1]) >= sum(work[last + 1 :])


def _holds_places(call: Call) -> bool:
    """Maps and tokens do, vectors do not."""
    return sum(side > 1 for side in call.outputs[0].shape) > 1
