"""From the wire's Tensor to pixels."""

import math

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from convlens.contract import ErrorReason, Failure
from convlens.v1 import network_pb2, tensor_pb2
from convlens.workers.images.limits import Limits

FLOAT32 = tensor_pb2.DataType.DATA_TYPE_FLOAT32
UINT8 = tensor_pb2.DataType.DATA_TYPE_UINT8
WANTED = "uint8, or float32 in [0, 1], of shape [height, width, 3] or [height, width, 1]"
ITEM_BYTES: dict[int, int] = {UINT8: 1, FLOAT32: 4}


def read_tensor(
    tensor: tensor_pb2.Tensor, limits: Limits, input: network_pb2.InputGeometry
) -> Image.Image | torch.Tensor:
    """Reads [height, width, 1 or 3]: uint8 to a Pillow image, float32 to a tensor [C, H, W].

    Raises Failure: TENSOR_INVALID, or IMAGE_TOO_LARGE.
    """
    shape = _shape(tensor)
    limits.check_size(shape[0], shape[1], input)
    _check_length(tensor, shape)
    if tensor.dtype == UINT8:
        mode = "L" if shape[2] == 1 else "RGB"
        return Image.frombytes(mode, (shape[1], shape[0]), tensor.data)
    values = np.frombuffer(tensor.data, "<f4").reshape(shape)
    _check_range(values)
    # A copy always, and in the machine's own byte order: torch cannot share memory of bytes.
    return torch.from_numpy(np.array(values.transpose(2, 0, 1), np.float32, order="C"))


def _shape(tensor: tensor_pb2.Tensor) -> tuple[int, int, int]:
    if tensor.dtype not in ITEM_BYTES:
        raise _invalid(f"its dtype is {dtype_name(tensor.dtype)}")
    if len(tensor.shape) != 3 or tensor.shape[2] not in (1, 3) or min(tensor.shape) < 1:
        raise _invalid(f"its shape is {list(tensor.shape)}")
    height, width, channels = tensor.shape
    return height, width, channels


def _check_length(tensor: tensor_pb2.Tensor, shape: tuple[int, int, int]) -> None:
    needed = math.prod(shape) * ITEM_BYTES[tensor.dtype]
    if len(tensor.data) != needed:
        has = f"it has {len(tensor.data)} bytes"
        raise _invalid(f"{has} where shape {list(shape)} takes {needed}")


def _check_range(values: npt.NDArray[np.float32]) -> None:
    low, high = float(values.min()), float(values.max())
    if not (math.isfinite(low) and math.isfinite(high)):
        raise _invalid("it holds NaN or infinite values")
    if low < 0 or high > 1:
        raise _invalid(f"its values go from {low:g} to {high:g}")


def dtype_name(dtype: int) -> str:
    """As the contract has it."""
    known = tensor_pb2.DataType.DESCRIPTOR.values_by_number.get(dtype)
    return known.name if known else str(dtype)


def _invalid(detail: str) -> Failure:
    return Failure(ErrorReason.ERROR_REASON_TENSOR_INVALID, detail=detail, wanted=WANTED)
