"""From the wire's Tensor to a vector of plain numbers, to which nothing is done."""

import numpy as np
import torch
from torch import Tensor

from convlens.contract import ErrorReason, Failure
from convlens.v1 import image_pb2, network_pb2
from convlens.workers.images.tensors import FLOAT32, dtype_name


def read_vector(image: image_pb2.Image, input: network_pb2.InputGeometry) -> Tensor:
    """Reads float32 [features] to a tensor [1, 1, features], as a network of kind linear takes it.

    Raises Failure TENSOR_INVALID.
    """
    tensor, shape = image.tensor, [input.width]
    if not image.HasField("tensor"):
        raise _invalid("the network takes plain numbers and no picture", shape)
    if tensor.dtype != FLOAT32:
        raise _invalid(f"its dtype is {dtype_name(tensor.dtype)}", shape)
    if list(tensor.shape) != shape:
        raise _invalid(f"its shape is {list(tensor.shape)}", shape)
    if len(tensor.data) != 4 * input.width:
        has = f"it has {len(tensor.data)} bytes"
        raise _invalid(f"{has} where shape {shape} takes {4 * input.width}", shape)
    # A copy, in the machine's own byte order: torch cannot share memory of bytes.
    values = torch.from_numpy(np.frombuffer(tensor.data, "<f4").astype(np.float32))
    if not bool(values.isfinite().all()):
        raise _invalid("it holds NaN or infinite values", shape)
    return values.reshape(1, 1, -1)


def _invalid(detail: str, shape: list[int]) -> Failure:
    wanted = f"float32 of shape {shape}, any finite numbers"
    return Failure(ErrorReason.ERROR_REASON_TENSOR_INVALID, detail=detail, wanted=wanted)
