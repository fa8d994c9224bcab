"""A picture in memory, before a network's geometry is applied."""

from dataclasses import dataclass

import torch
from PIL.Image import Image


@dataclass(frozen=True, slots=True, eq=False)
class Pixels:
    """A picture as it was sent, upright, grey or RGB, without alpha.

    `values` is a Pillow image of mode L or RGB, or a float32 tensor [1 or 3, height, width] in
    [0, 1]: 8-bit pictures stay 8-bit, so that they are resized as torchvision resizes them.
    """

    values: Image | torch.Tensor

    @property
    def height(self) -> int:
        """Height in pixels."""
        values = self.values
        return int(values.shape[1]) if isinstance(values, torch.Tensor) else values.height

    @property
    def width(self) -> int:
        """Width in pixels."""
        values = self.values
        return int(values.shape[2]) if isinstance(values, torch.Tensor) else values.width
