"""The picture that a fully convolutional network looks at, and where it lies in the original."""

from convlens.contract import Failure
from convlens.contract.validation import Violation, invalid
from convlens.v1 import explanation_methods_pb2 as methods
from convlens.v1 import network_pb2
from convlens.workers.dense.network import FullyConvolutional
from convlens.workers.images import Pixels, Prepared, prepare_as
from convlens.workers.images.plan import Plan

# As the contract allows; pictures are no larger on a side than this times a handful.
LARGEST_SIDE = 4096


def prepare_larger(
    pixels: Pixels,
    dense: FullyConvolutional,
    input: network_pb2.InputGeometry,
    p: methods.DenseMap,
    path: str,
) -> Prepared:
    """The whole picture, its shorter side resized to `p.shorter_side` where that is given.

    What of its margins no place of the map would see, less than a step, is cut off on all sides.
    Raises Failure INVALID_REQUEST, naming the field behind `path` and the sides that do, where it
    is smaller than the network's input or larger than the memory that is planned for it.
    """
    height, width = _resized(pixels, p)
    if not _is_large_enough(dense, height, width) or not dense.fits(height, width):
        raise _unfit(pixels, dense, p, path)
    return prepare_as(pixels, _plan(pixels, dense, height, width), input)


def on_original(
    prepared: Prepared, box: tuple[float, float, float, float]
) -> tuple[float, float, float, float]:
    """A box (x0, y0, x1, y1) of the prepared picture in pixels of the original."""
    x0, y0, x1, y1 = prepared.box
    _, height, width = prepared.tensor.shape
    across, down = (x1 - x0) / width, (y1 - y0) / height
    left, top, right, bottom = box
    return x0 + left * across, y0 + top * down, x0 + right * across, y0 + bottom * down


def _resized(pixels: Pixels, p: methods.DenseMap) -> tuple[int, int]:
    if not p.HasField("shorter_side"):
        return pixels.height, pixels.width
    return _with_shorter_side(pixels, p.shorter_side)


def _with_shorter_side(pixels: Pixels, side: int) -> tuple[int, int]:
    """Height and width, rounded as torchvision rounds."""
    height, width = pixels.height, pixels.width
    long = int(side * max(height, width) / min(height, width))
    return (long, side) if height > width else (side, long)


def _is_large_enough(dense: FullyConvolutional, height: int, width: int) -> bool:
    return min(dense.grid(height, width)) >= 1


def _plan(pixels: Pixels, dense: FullyConvolutional, height: int, width: int) -> Plan:
    """Cuts so much off that the places lie in the middle."""
    counts = dense.grid(height, width)
    needed = [
        own + (count - 1) * step
        for own, count, step in zip(dense.input, counts, dense.step, strict=True)
    ]
    top, left = (height - needed[0]) // 2, (width - needed[1]) // 2
    return Plan(pixels.height, pixels.width, height, width, top, left, needed[0], needed[1])


def _unfit(pixels: Pixels, dense: FullyConvolutional, p: methods.DenseMap, path: str) -> Failure:
    sizes = {side: _with_shorter_side(pixels, side) for side in range(1, LARGEST_SIDE + 1)}
    good = [
        side for side, size in sizes.items() if _is_large_enough(dense, *size) and dense.fits(*size)
    ]
    size = f"{pixels.height} x {pixels.width} pixels (height x width)"
    given = f"is {p.shorter_side}" if p.HasField("shorter_side") else "is left out"
    allowed = (
        f"must be at least {good[0]} and at most {good[-1]}"
        if good
        else "no other would do: the picture is too long for its width, send a part of it"
    )
    words = f"{given} for a picture of {size}; {allowed}"
    return invalid([Violation(field=f"{path}.shorter_side", description=words)])
