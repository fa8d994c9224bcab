"""From pixels to what a network takes: resized and cropped as it was trained, or as they are."""

from dataclasses import dataclass

import torch

from convlens.contract import ErrorReason, Failure
from convlens.v1 import image_pb2, network_pb2
from convlens.workers.images.limits import in_words
from convlens.workers.images.pixels import Pixels
from convlens.workers.images.plan import Plan
from convlens.workers.images.resampling import resample_bytes, resample_floats

AS_IS = image_pb2.Geometry.GEOMETRY_AS_IS


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A picture as a network takes it, and where in the original it lies.

    `tensor` is float32 [channels, height, width] in [0, 1], contiguous and not normalised;
    `height` and `width` are the original's, in pixels; `box` is (x0, y0, x1, y1), the rectangle of
    the original that the tensor covers, in its pixels, and reaches beyond it where it was padded.
    """

    tensor: torch.Tensor
    height: int
    width: int
    box: tuple[float, float, float, float]


def prepare(
    pixels: Pixels,
    input: network_pb2.InputGeometry,
    geometry: image_pb2.Geometry.ValueType,
    network: str,
) -> Prepared:
    """Resizes and crops `pixels` for the network, bit for bit as torchvision's presets do.

    8-bit pictures go through Pillow and float pictures through torch, as with torchvision.
    With geometry AS_IS the values are kept; raises Failure GEOMETRY_MISMATCH on another size.
    """
    if geometry == AS_IS:
        _check_size(pixels, input, network)
        plan = Plan.whole(pixels.height, pixels.width)
    else:
        plan = Plan.fitting(pixels.height, pixels.width, input)
    return prepare_as(pixels, plan, input)


def prepare_as(pixels: Pixels, plan: Plan, input: network_pb2.InputGeometry) -> Prepared:
    """Resizes and crops `pixels` by a plan, with the interpolation and colours of the network."""
    values = pixels.values
    grey = input.channels == 1
    tensor = (
        resample_floats(values, plan, input.interpolation, grey)
        if isinstance(values, torch.Tensor)
        else resample_bytes(values, plan, input.interpolation, grey)
    )
    return Prepared(tensor, pixels.height, pixels.width, plan.box())


def _check_size(pixels: Pixels, input: network_pb2.InputGeometry, network: str) -> None:
    if (pixels.height, pixels.width) != (input.height, input.width):
        raise Failure(
            ErrorReason.ERROR_REASON_GEOMETRY_MISMATCH,
            input=in_words(input.height, input.width),
            network=network,
            size=in_words(pixels.height, pixels.width),
        )
