"""A network with the resizing and cropping that a picture goes through before it."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from convlens.contract import ErrorReason, Failure
from convlens.workers.anatomy import Trace
from convlens.workers.images import Pixels
from convlens.workers.images.plan import Plan
from convlens.workers.images.resampling import resample_floats
from convlens.workers.network import ServedNetwork
from convlens.workers.pictures import Picture


@dataclass(frozen=True)
class Resizing:
    """A Body for pictures of one size, as they are sent; gradients go through the resizing."""

    network: ServedNetwork
    plan: Plan

    @property
    def device(self) -> torch.device:
        """The network's."""
        return self.network.device

    @property
    def module(self) -> nn.Module:
        """The network's; it is what comes after the resizing."""
        return self.network.module

    @property
    def trace(self) -> Trace:
        """The network's, for pictures of this size."""
        network = self.network.trace
        return replace(network, image=(network.image[0], self.plan.height, self.plan.width))

    def place(self, pixels: Tensor) -> Tensor:
        """As the network does."""
        return self.network.place(pixels)

    def scores(self, pixels: Tensor) -> Tensor:
        """Scores of pictures [n, 1 or 3, height, width]."""
        size = self.network.facts.input
        grey = size.channels == 1
        inputs = [resample_floats(each, self.plan, size.interpolation, grey) for each in pixels]
        return self.network.scores(torch.stack(inputs))


def resizing_of(picture: Picture, network: ServedNetwork) -> Resizing:
    """What a picture goes through; raises Failure METHOD_NOT_APPLICABLE where it is too large."""
    plan = Plan.fitting(picture.pixels.height, picture.pixels.width, network.facts.input)
    if plan.is_huge:
        facts = network.facts
        raise Failure(
            ErrorReason.ERROR_REASON_METHOD_NOT_APPLICABLE,
            method="An attack through resizing",
            network=f"{facts.name}@{facts.version}",
            detail=f"the picture would be {plan.resized_width} x {plan.resized_height} pixels; "
            "send a picture whose sides are more alike, or attack the network's input",
        )
    return Resizing(network, plan)


def original(pixels: Pixels) -> Tensor:
    """The picture as it was sent, float32 [1 or 3, height, width] in [0, 1]."""
    if isinstance(pixels.values, Tensor):
        return pixels.values
    values = np.atleast_3d(np.asarray(pixels.values)).astype(np.float32)
    return torch.from_numpy(values / np.float32(255)).movedim(-1, 0).contiguous()
