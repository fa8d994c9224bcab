"""What the lectures on ConvNets advise against, found in the layers of a network."""

from collections.abc import Iterator
from typing import TypeAlias

from convlens.v1 import anatomy_pb2
from convlens.workers.anatomy.functions import ADAPTIVE_POOLS, POOLS
from convlens.workers.anatomy.values import Call, Trace
from convlens.workers.anatomy.windows import Window, map_size, windows

LARGEST_POOLING = 3
# A first layer of such a window and stride loses information early (AlexNet; ZFNet mended it).
COARSE_WINDOW, COARSE_STRIDE = 11, 4


def warnings(trace: Trace) -> list[anatomy_pb2.DesignWarning]:
    """The warnings of every layer, in the order of computation."""
    found: list[anatomy_pb2.DesignWarning] = []
    first = True
    for node in trace.nodes.values():
        if not node.leaf:
            continue
        for call in trace.calls[node.calls.start : node.calls.stop]:
            for kind, sentence in _about(call, first):
                found.append(
                    anatomy_pb2.DesignWarning(layer=node.name, kind=kind, sentence=sentence)
                )
            first = first and call.function != "conv2d"
    return found


Finding: TypeAlias = "tuple[anatomy_pb2.DesignWarningKind.ValueType, str]"


def _about(call: Call, first: bool) -> Iterator[Finding]:
    found = windows(call)
    if found is None or call.function in ADAPTIVE_POOLS:
        return
    vertical, horizontal = found
    shape = f"{vertical.kernel} × {horizontal.kernel}"
    if first and call.function == "conv2d" and _is_coarse(found):
        yield (
            anatomy_pb2.DESIGN_WARNING_KIND_COARSE_FIRST_LAYER,
            f"The first convolution is {shape} with a stride of {vertical.stride}: fine detail is "
            "lost before anything has looked at it. Smaller windows and strides keep it.",
        )
    if call.function in POOLS and max(vertical.kernel, horizontal.kernel) > LARGEST_POOLING:
        yield (
            anatomy_pb2.DESIGN_WARNING_KIND_LARGE_POOLING,
            f"The pooling window is {shape}: larger than 3 × 3 is usually too destructive.",
        )
    if any(window.stride > window.extent for window in found):
        yield _skips(found)
    else:
        yield from _tiling(call, found)


def _is_coarse(found: tuple[Window, Window]) -> bool:
    # Windows that do not overlap cut patches, as transformers take them; each keeps its numbers.
    return all(w.kernel >= COARSE_WINDOW and COARSE_STRIDE <= w.stride < w.kernel for w in found)


def _skips(found: tuple[Window, Window]) -> Finding:
    """A stride larger than the window."""
    seen = 1.0
    for window in found:
        seen *= min(1, window.extent / window.stride)
    strides = " × ".join(str(window.stride) for window in found)
    shape = " × ".join(str(window.extent) for window in found)
    return (
        anatomy_pb2.DESIGN_WARNING_KIND_STRIDE_SKIPS,
        f"The stride of {strides} is larger than the window of {shape}: it never sees "
        f"{100 * (1 - seen):.0f} % of its input.",
    )


def _tiling(call: Call, found: tuple[Window, Window]) -> Iterator[Finding]:
    """(w + 2p - k) that is no multiple of the stride, where nothing rounds up."""
    axes = list(zip(found, map_size(call), ("rows", "columns"), strict=True))
    if axes[0][:2] == axes[1][:2]:
        axes = [(*axes[0][:2], "rows and columns")]
    for window, size, name in axes:
        left = window.steps(size) % window.stride
        if left == 0 or window.ceil:
            continue
        lost, place = left - window.after, "of them"
        if lost <= 0:
            lost, place = left, "of the padding"
        falls = "falls" if lost == 1 else "fall"
        yield (
            anatomy_pb2.DESIGN_WARNING_KIND_DOES_NOT_TILE,
            f"Windows of {window.extent} with a stride of {window.stride} do not tile {size} "
            f"{name} with a padding of {window.before}: the last {lost} {place} {falls} off.",
        )
