"""How windows slide over a picture, and which of them fit."""

from convlens.contract.validation import Violation, invalid
from convlens.v1 import explanation_methods_pb2 as methods

# So many windows of an approximate sweep are computed exactly too, or a fiftieth of them.
AUDITED = 8


def windows_along(size: int, window: int, stride: int) -> int:
    """How many windows there are along an axis of `size` pixels.

    The first begins at the first pixel, and the last is the one that reaches the end, where it is
    cut: ⌈(size - window) / stride⌉ + 1.
    """
    return -(-max(size - window, 0) // stride) + 1


def window_count(p: methods.Occlusion, height: int, width: int) -> int:
    """How many windows a sweep has, at most where it is adaptive; `p` has its defaults."""
    return windows_along(height, p.window, p.stride) * windows_along(width, p.window, p.stride)


def audited_count(windows: int) -> int:
    """How many of the windows of an approximate sweep are computed exactly as well."""
    return min(windows, max(AUDITED, windows // 50))


def check_occlusion(p: methods.Occlusion, height: int, width: int, path: str) -> None:
    """Raises Failure INVALID_REQUEST where windows do not fit or leave pixels out.

    `p` has its defaults; `path` names it: "methods[0].occlusion".
    """
    broken: list[Violation] = []
    shorter = min(height, width)
    if p.window > shorter:
        text = f"is {p.window}; must be at most {shorter}, the picture is {height} x {width} pixels"
        broken.append(Violation(field=f"{path}.window", description=text))
    if p.stride > p.window:
        text = f"is {p.stride}; must be at most {p.window}, the side of the window"
        broken.append(Violation(field=f"{path}.stride", description=text))
    if broken:
        raise invalid(broken)
