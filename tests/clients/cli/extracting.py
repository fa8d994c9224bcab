"""What the tests of `convlens extract` have in common: pictures, and what a server says of them."""

from pathlib import Path

import numpy as np

from convlens.contract import ErrorReason, Failure
from convlens.v1 import feature_pb2 as pb
from convlens.v1 import tensor_pb2

#: The pictures of `photos` that are numbers.
GOOD = [number for number in range(40) if number != 7]


def photos(parent: Path) -> Path:
    """A folder of pictures 0 to 39; number 7 is none."""
    folder = parent / "photos"
    folder.mkdir()
    for number in range(40):
        content = "none" if number == 7 else str(number)
        (folder / f"{number:02}.png").write_text(content)
    return folder


def answer(request: pb.ExtractFeaturesRequest) -> pb.ExtractFeaturesResponse:
    """Two numbers that tell the picture: what its bytes say, and the number of the layer."""
    [image] = request.images
    if not image.encoded.isdigit():
        raise Failure(ErrorReason.ERROR_REASON_IMAGE_UNREADABLE, detail="no number", formats="x")
    codes: list[pb.LayerCode] = []
    for number, wanted in enumerate(request.layers):
        numbers = np.array([[int(image.encoded)], [number]])
        kind = "<f2" if wanted.dtype == tensor_pb2.DATA_TYPE_FLOAT16 else "<f4"
        dtype = wanted.dtype or tensor_pb2.DATA_TYPE_FLOAT32
        values = tensor_pb2.Tensor(dtype=dtype, shape=[2, 1], data=numbers.astype(kind).tobytes())
        code = pb.LayerCode(layer=wanted.layer, values=values)
        if wanted.pooling == pb.POOLING_MAX:
            data = np.array([[3, 4], [5, 6]], "<i8").tobytes()
            code.positions.CopyFrom(
                tensor_pb2.Tensor(dtype=tensor_pb2.DATA_TYPE_INT64, shape=[2, 2], data=data)
            )
        codes.append(code)
    result = pb.ExtractFeaturesResult(features=pb.Features(codes=codes))
    return pb.ExtractFeaturesResponse(results=[result])
