"""Colours by hue, saturation and value."""

import torch
from torch import Tensor


def colors_of(values: Tensor) -> Tensor:
    """Pictures [..., channels, height, width] in 8 bits, of values in [0, 1].

    Three channels are hue, saturation and value, a hue of 1 being one of 0, and become red, green
    and blue; others stay as they are. Smith 1978, doi:10.1145/800248.807361.
    """
    if values.shape[-3] == 3:
        hue, saturation, value = values.unbind(-3)
        sixths = torch.stack([6 * hue + shift for shift in (5, 3, 1)], -3).remainder_(6)
        lacks = torch.minimum(sixths, 4 - sixths).clamp_(0, 1)
        values = value.unsqueeze(-3) - (value * saturation).unsqueeze(-3) * lacks
    return (values * 255).round_() / 255
