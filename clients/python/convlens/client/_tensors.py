"""Tensors of the contract as numpy arrays, and back."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convlens.client._errors import Internal
from convlens.v1 import tensor_pb2

ARRAYS: Mapping[int, np.dtype[Any]] = {
    tensor_pb2.DATA_TYPE_FLOAT32: np.dtype("<f4"),
    tensor_pb2.DATA_TYPE_FLOAT16: np.dtype("<f2"),
    tensor_pb2.DATA_TYPE_UINT8: np.dtype("u1"),
    tensor_pb2.DATA_TYPE_INT64: np.dtype("<i8"),
}
TYPES = {array: tensor for tensor, array in ARRAYS.items()}


def array_of(
    tensor: tensor_pb2.Tensor, arrays: Mapping[int, np.dtype[Any]] = ARRAYS
) -> NDArray[Any]:
    """The numbers where they lie in the message, without a copy; Internal for what is no tensor."""
    try:
        return np.frombuffer(tensor.data, arrays[tensor.dtype]).reshape(tensor.shape)
    except (KeyError, ValueError) as error:
        raise Internal(f"The server's answer holds a tensor that is none: {error}.") from error


def tensor_of(array: NDArray[Any]) -> tensor_pb2.Tensor:
    """The numbers as the contract has them; KeyError where it has none of their type."""
    little = array.astype(array.dtype.newbyteorder("<"), copy=False)
    dtype = tensor_pb2.DataType.ValueType(TYPES[little.dtype])
    return tensor_pb2.Tensor(dtype=dtype, shape=array.shape, data=little.tobytes())
