"""Pixels as files and as messages."""

import io

import torch
from PIL import Image
from torch import Tensor

from convlens.v1 import tensor_pb2


def in_8_bits(pixels: Tensor) -> Tensor:
    """The nearest 8-bit picture to pixels in [0, 1], whatever the budget."""
    return (pixels.double() * 255).round().to(torch.uint8)


def png(picture: Tensor) -> bytes:
    """A picture uint8 [channels, height, width] as a PNG."""
    values = picture.cpu().movedim(0, -1).numpy()
    file = io.BytesIO()
    Image.fromarray(values[:, :, 0] if values.shape[-1] == 1 else values).save(file, "PNG")
    return file.getvalue()


def pixels_of(pixels: Tensor) -> tensor_pb2.Tensor:
    """Pixels [channels, height, width] as float32 [height, width, channels]."""
    return _floats(pixels.movedim(0, -1))


def numbers_of(vector: Tensor) -> tensor_pb2.Tensor:
    """Plain numbers [1, 1, features] as float32 [features]."""
    return _floats(vector.flatten())


def _floats(values: Tensor) -> tensor_pb2.Tensor:
    values = values.float().cpu().contiguous()
    return tensor_pb2.Tensor(
        dtype=tensor_pb2.DATA_TYPE_FLOAT32, shape=values.shape, data=values.numpy().tobytes()
    )
