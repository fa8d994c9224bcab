"""What every synthesizer is given."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from convlens.v1 import synthesis_methods_pb2 as methods
from convlens.workers.methods.randomness import normal
from convlens.workers.synthesizers.memory import Memory


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """A canvas [channels, height, width], and the network's input, in the same channels.

    `mean` and `std` [channels, 1, 1] are the colour that the network was trained around, and how
    far its training pictures were from it. Everything random comes from `seed` and the picture's
    `number`. `memory` is there where an earlier call is gone on from.
    """

    canvas: tuple[int, int, int]
    input: tuple[int, int, int]
    mean: Tensor
    std: Tensor
    seed: int
    number: int = 0
    memory: Memory | None = None

    @property
    def device(self) -> torch.device:
        """Where the pictures grow: the network's."""
        return self.mean.device

    def blank(self) -> Tensor:
        """A canvas in the mean colour."""
        return self.mean.expand(self.canvas).clone()

    def start(self, kind: methods.CanvasStart.ValueType, again: int = 0) -> Tensor:
        """What a picture grows from, in [0, 1]; noise is other noise for each time `again`."""
        if kind == methods.CANVAS_START_BLACK:
            return torch.zeros_like(self.blank())
        if kind == methods.CANVAS_START_MEAN:
            return self.blank()
        noise = normal(self.blank(), self.seed, "canvas", self.number, again)
        return (self.mean + NOISE * self.std * noise).clamp(0, 1)

    def see(self, pixels: Tensor) -> Tensor:
        """What the network sees of pictures [..., height, width]: them at its own size, in [0, 1].

        A canvas of the network's size is seen as it is. Gradients go through.
        """
        if pixels.shape[-2:] == self.input[-2:]:
            return pixels
        # Its gradient is a sum in no fixed order on a GPU.
        batch = pixels.reshape(-1, *pixels.shape[-3:]).cpu()
        size = self.input[-2:]
        seen = F.interpolate(batch, size, mode="bilinear", align_corners=False, antialias=True)
        return seen.reshape(*pixels.shape[:-2], *size).clamp(0, 1).to(pixels.device)


# Of the spread of training pictures, that of the noise that a picture grows from.
NOISE = 0.5
