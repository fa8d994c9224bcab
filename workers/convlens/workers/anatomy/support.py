"""What a layer supports, as far as the calls up to it tell."""

from collections.abc import Sequence

from convlens.workers.anatomy.fields import Map
from convlens.workers.anatomy.values import INPUT, Call, Trace


def locatable(trace: Trace, maps: Sequence[Map | None]) -> list[bool]:
    """For each call whether Grad-CAM can look at it: maps [C, H, W] on the way to the scores."""
    ways = heard(trace)
    return [
        place is not None and place.axes == (-2, -1) and call.index in ways and _has_places(call)
        for call, place in zip(trace.calls, maps, strict=True)
    ]


def _has_places(call: Call) -> bool:
    output = call.outputs[0]
    if call.plural or output.axis != 0 or len(output.shape) != 3:
        return False
    _, height, width = output.shape
    return height * width > 1 and output.dtype.is_floating_point


def heard(trace: Trace) -> set[int]:
    """Calls that the network's result comes from."""
    found: set[int] = set()
    waiting = [] if trace.result is None else [trace.result]
    while waiting:
        index = waiting.pop()
        if index != INPUT and index not in found:
            found.add(index)
            # What is the same for every picture tells nothing of whatever gave it its shape.
            told = (value for value in trace.calls[index].operands if value.axis is not None)
            waiting.extend(value.source for value in told if value.source is not None)
    return found
