"""Resizes, crops and scales pixels to a tensor, each kind on torchvision's own way."""

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from convlens.v1 import image_pb2
from convlens.workers.images.plan import Plan

PILLOW = {
    image_pb2.INTERPOLATION_BILINEAR: Image.Resampling.BILINEAR,
    image_pb2.INTERPOLATION_BICUBIC: Image.Resampling.BICUBIC,
    image_pb2.INTERPOLATION_NEAREST: Image.Resampling.NEAREST,
}
TORCH = {
    image_pb2.INTERPOLATION_BILINEAR: "bilinear",
    image_pb2.INTERPOLATION_BICUBIC: "bicubic",
    image_pb2.INTERPOLATION_NEAREST: "nearest",
}


def resample_bytes(
    image: Image.Image, plan: Plan, interpolation: image_pb2.Interpolation.ValueType, grey: bool
) -> torch.Tensor:
    """Mode L or RGB to float32 [1 or 3, crop height, crop width], the bytes divided by 255."""
    if grey and image.mode != "L":
        image = image.convert("L")
    # Without torch up to here: its threads would wait for those that compute.
    pixels = np.asarray(_cut(image, plan, PILLOW[interpolation]))
    values = np.empty((1 if grey else 3, *pixels.shape[:2]), np.float32)
    values[...] = pixels if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    values /= np.float32(255)
    return torch.from_numpy(values)


def resample_floats(
    image: torch.Tensor, plan: Plan, interpolation: image_pb2.Interpolation.ValueType, grey: bool
) -> torch.Tensor:
    """[1 or 3, H, W] to [1 or 3, crop height, crop width], float32, kept within [0, 1]."""
    if grey and len(image) == 3:
        image = _luma(image)
    if plan.is_huge:
        image = _cut_bands(image, plan, PILLOW[interpolation]).clamp(0, 1)
    elif plan.resizes:
        image = _resize(image, plan, TORCH[interpolation]).clamp(0, 1)
    if image.shape[1:] != (plan.crop_height, plan.crop_width):
        image = _crop(image, plan)
    return image.expand(1 if grey else 3, -1, -1).contiguous()


def _cut(image: Image.Image, plan: Plan, filter: Image.Resampling) -> Image.Image:
    left, top, right, bottom = plan.inside() if plan.is_huge else plan.everything()
    if plan.resizes:
        # Pillow takes a box in single precision, so a huge picture may be off by one step of 255.
        box = plan.source(left, top, right, bottom) if plan.is_huge else None
        image = image.resize((right - left, bottom - top), filter, box)
    x, y = plan.left - left, plan.top - top
    window = (x, y, x + plan.crop_width, y + plan.crop_height)
    return image if window == (0, 0, *image.size) else image.crop(window)


def _cut_bands(image: torch.Tensor, plan: Plan, filter: Image.Resampling) -> torch.Tensor:
    bands = [_cut(Image.fromarray(band.numpy()), plan, filter) for band in image]
    return torch.from_numpy(np.stack([np.asarray(band) for band in bands]))


def _luma(image: torch.Tensor) -> torch.Tensor:
    """ITU-R 601, as Pillow's mode L."""
    red, green, blue = image
    return (0.299 * red + 0.587 * green + 0.114 * blue).clamp(0, 1)[None]


def _resize(image: torch.Tensor, plan: Plan, mode: str) -> torch.Tensor:
    size = [plan.resized_height, plan.resized_width]
    if mode == "nearest":
        return F.interpolate(image[None], size, mode=mode)[0]
    return F.interpolate(image[None], size, mode=mode, align_corners=False, antialias=True)[0]


def _crop(image: torch.Tensor, plan: Plan) -> torch.Tensor:
    right = plan.left + plan.crop_width - image.shape[2]
    bottom = plan.top + plan.crop_height - image.shape[1]
    return F.pad(image, (-plan.left, right, -plan.top, bottom))
