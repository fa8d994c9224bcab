"""From the wire's Image to pixels."""

from convlens.contract import ErrorReason, Failure
from convlens.v1 import image_pb2, network_pb2
from convlens.workers.images.decode import decode
from convlens.workers.images.headers import FORMATS
from convlens.workers.images.limits import Limits
from convlens.workers.images.pixels import Pixels
from convlens.workers.images.tensors import read_tensor


def read_image(image: image_pb2.Image, limits: Limits, input: network_pb2.InputGeometry) -> Pixels:
    """Reads a picture from the bytes of a file or from a tensor; `input` is named in errors only.

    Raises Failure: IMAGE_EMPTY, IMAGE_UNREADABLE, IMAGE_TOO_LARGE or TENSOR_INVALID.
    """
    if image.encoded:
        return Pixels(decode(image.encoded, limits, input))
    if image.tensor.data or image.tensor.shape:
        return Pixels(read_tensor(image.tensor, limits, input))
    raise Failure(ErrorReason.ERROR_REASON_IMAGE_EMPTY, formats=FORMATS)
