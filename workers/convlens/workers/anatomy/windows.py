"""The windows of convolutions and poolings, and the sizes that come of them."""

from dataclasses import dataclass

from convlens.workers.anatomy.arguments import argument, operand, pair
from convlens.workers.anatomy.functions import ADAPTIVE_POOLS, POOLS
from convlens.workers.anatomy.values import Call


@dataclass(frozen=True, slots=True)
class Window:
    """A window along one axis, in units of its input; `ceil` lets the last one hang over."""

    kernel: int
    stride: int
    before: int = 0
    after: int = 0
    dilation: int = 1
    ceil: bool = False

    @property
    def extent(self) -> int:
        """From its first to its last unit."""
        return self.dilation * (self.kernel - 1) + 1

    def steps(self, size: int) -> int:
        """How far the first window can move: w + 2p - k, the extent of a dilated one for k."""
        return size + self.before + self.after - self.extent

    def output(self, size: int) -> int:
        """⌊(w + 2p - k) / s⌋ + 1, or with ⌈ ⌉ under `ceil`.

        A window that would begin behind the input and the padding before it is left out there.
        """
        if not self.ceil:
            return self.steps(size) // self.stride + 1
        count = -(-self.steps(size) // self.stride) + 1
        return count - 1 if (count - 1) * self.stride >= size + self.before else count


def windows(call: Call) -> tuple[Window, Window] | None:
    """The vertical and the horizontal window of a call, None where it has none.

    An adaptive pooling has windows where its sizes divide those of its input.
    """
    if call.function == "conv2d":
        return _convolution(call)
    if call.function in POOLS:
        return _pooling(call)
    return _adaptive(call) if call.function in ADAPTIVE_POOLS else None


def map_size(call: Call) -> tuple[int, int]:
    """Height and width of what a call with windows takes."""
    *_, height, width = operand(call, 0, "input").batch_shape
    return height, width


def _convolution(call: Call) -> tuple[Window, Window]:
    *_, height, width = operand(call, 1, "weight").batch_shape
    strides = pair(argument(call, 3, "stride", 1))
    paddings = pair(argument(call, 4, "padding", 0))
    dilations = pair(argument(call, 5, "dilation", 1))
    axes = zip((height, width), strides, paddings, dilations, strict=True)
    vertical, horizontal = (
        Window(kernel, stride, *_padding(padding, dilation * (kernel - 1)), dilation)
        for kernel, stride, padding, dilation in axes
    )
    return vertical, horizontal


def _padding(padding: int | str, total: int) -> tuple[int, int]:
    """Before and after the map; "same" is `total` in all, the odd one after it."""
    if isinstance(padding, int):
        return padding, padding
    return (total // 2, total - total // 2) if padding == "same" else (0, 0)


def _pooling(call: Call) -> tuple[Window, Window]:
    average = call.function == "avg_pool2d"
    kernels = pair(argument(call, 1, "kernel_size"))
    strides = pair(argument(call, 2, "stride") or kernels)
    paddings = pair(argument(call, 3, "padding", 0))
    dilations = (1, 1) if average else pair(argument(call, 4, "dilation", 1))
    ceil = bool(argument(call, 4 if average else 5, "ceil_mode", False))
    axes = zip(kernels, strides, paddings, dilations, strict=True)
    vertical, horizontal = (Window(k, s, p, p, d, ceil) for k, s, p, d in axes)
    return vertical, horizontal


def _adaptive(call: Call) -> tuple[Window, Window] | None:
    *_, height, width = call.outputs[0].batch_shape
    sizes = tuple(zip(map_size(call), (height, width), strict=True))
    if any(before % after for before, after in sizes):
        return None
    vertical, horizontal = (Window(before // after, before // after) for before, after in sizes)
    return vertical, horizontal
