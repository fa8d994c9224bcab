"""Plain numbers in requests: codes and directions."""

import math

import numpy as np
import torch
from torch import Tensor

from convlens.contract.validation import Violation, invalid
from convlens.v1 import tensor_pb2


def numbers_in(tensor: tensor_pb2.Tensor, path: str) -> Tensor:
    """The numbers of a tensor, float32 in its shape.

    Raises Failure INVALID_REQUEST, with its `path` in the request, where it is none of finite
    float32.
    """
    shape = list(tensor.shape)
    needed = 4 * math.prod(shape)
    if any(size < 0 for size in shape):
        raise _wrong(path, f"has the shape {shape}; no size may be negative")
    if tensor.dtype != tensor_pb2.DATA_TYPE_FLOAT32:
        raise _wrong(path, "has another dtype; must be float32")
    if len(tensor.data) != needed:
        words = f"has {len(tensor.data)} bytes; must have {needed}, 4 for each of its shape {shape}"
        raise _wrong(path, words)
    values = np.frombuffer(tensor.data, "<f4")
    if not bool(np.isfinite(values).all()):
        raise _wrong(path, "has NaN or infinite values; must be finite")
    # A copy in the machine's own byte order: torch cannot share memory of bytes.
    return torch.from_numpy(values.astype(np.float32)).reshape(shape)


def _wrong(path: str, words: str) -> Exception:
    return invalid([Violation(field=path, description=words)])
