"""Grad-CAM: the maps of a layer, weighted by what they do for the score, and added."""

from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import interpolate

from convlens.v1 import explanation_methods_pb2 as methods
from convlens.v1 import image_pb2
from convlens.workers.runner import Objective, Pass, Steps


@dataclass(frozen=True)
class GradCamResult:
    """The map at the size of the picture, and at the size of the layer's maps."""

    map: Tensor
    coarse: Tensor


def grad_cam(x: Tensor, score: Objective, p: methods.GradCam, call: int) -> Steps[GradCamResult]:
    """Where the maps of a layer speak for the score at x [channels, height, width].

    `call` is the layer's in the network's trace; it gives maps [maps, rows, columns]. Each is
    weighted by its gradient's mean over its places. Selvaraju et al. 2016, arXiv:1610.02391,
    section 3.
    """
    answer = yield Pass(x[None], score, capture=(call,), by=(call,))
    maps, gradients = answer.captured[call][0], answer.gradients[call][0]
    weights = gradients.mean(dim=(-2, -1), keepdim=True)
    coarse = (weights * maps).sum(dim=0)
    if not p.relu:
        return GradCamResult(resized(coarse, x, p.interpolation), coarse)
    coarse = coarse.clamp(min=0)
    # A cubic goes below zero beside a peak.
    return GradCamResult(resized(coarse, x, p.interpolation).clamp(min=0), coarse)


def resized(coarse: Tensor, x: Tensor, interpolation: int) -> Tensor:
    """A map [rows, columns] brought to the size of a picture [channels, height, width]."""
    size, batch = x.shape[-2:], coarse[None, None]
    if interpolation == image_pb2.INTERPOLATION_NEAREST:
        return interpolate(batch, size, mode="nearest-exact")[0, 0]
    if interpolation == image_pb2.INTERPOLATION_BILINEAR:
        return interpolate(batch, size, mode="bilinear", align_corners=False)[0, 0]
    if interpolation == image_pb2.INTERPOLATION_BICUBIC:
        return interpolate(batch, size, mode="bicubic", align_corners=False)[0, 0]
    raise ValueError(f"no interpolation has the number {interpolation}")
