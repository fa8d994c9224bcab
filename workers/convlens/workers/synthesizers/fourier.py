"""Pictures as Fourier coefficients, and colours along axes in which they do not correlate."""

from typing import cast

import torch
from torch import Tensor

from convlens.workers.methods.randomness import normal

# lucid's: how far its noise is from grey, and what its pictures are divided by.
_NOISE = 0.01
_CONTRAST = 4.0
# The darkest that a sigmoid need be: 8 bits round it to black.
_INSIDE = 1 / 512
# What the colours of natural pictures are made of: the root of their covariance on ImageNet, by
# Olah et al. 2017, doi:10.23915/distill.00007. A row for each of red, green and blue.
_NATURAL = ((0.26, 0.09, 0.02), (0.27, 0.00, -0.05), (0.27, -0.09, 0.03))


class Spectrum:
    """The Fourier coefficients of real maps [channels, height, width].

    They are the real and imaginary parts [channels, height, width // 2 + 1, 2] of one half: the
    other is its mirror. Each is scaled by 1 / frequency^decay_power.
    """

    def __init__(self, like: Tensor, decay_power: float) -> None:
        self._like = like
        *_, height, width = like.shape
        down = cast(Tensor, torch.fft.fftfreq(height, dtype=like.dtype))[:, None]
        across = cast(Tensor, torch.fft.rfftfreq(width, dtype=like.dtype))
        # The mean of a picture has no frequency: it counts as a single wave.
        frequency = torch.hypot(down, across).clamp_(min=1 / max(height, width))
        self._scale = frequency.pow_(-decay_power).div_(_CONTRAST)[..., None].to(like.device)

    def blank(self) -> Tensor:
        """The coefficients of maps that are 0."""
        return self._like.new_zeros(len(self._like), *self._scale.shape[:2], 2)

    def noise(self, seed: int, number: int) -> Tensor:
        """Those of noise, in which every wave is as strong before it is scaled."""
        return _NOISE * normal(self.blank(), seed, "spectrum", number)

    def decode(self, coefficients: Tensor) -> Tensor:
        """The maps; gradients go through."""
        waves = torch.view_as_complex(coefficients * self._scale)
        return cast(Tensor, torch.fft.irfft2(waves, s=self._like.shape[-2:], norm="ortho"))

    def encode(self, maps: Tensor) -> Tensor:
        """The coefficients of maps."""
        waves = cast(Tensor, torch.fft.rfft2(maps, norm="ortho"))
        return torch.view_as_real(waves) / self._scale


class Colors:
    """Maps without bounds as colours in (0, 1): 0 is the mean colour.

    `decorrelated`, they are along the axes of natural colours, the strongest first.
    """

    def __init__(self, mean: Tensor, decorrelated: bool) -> None:
        self._mean = mean.clamp(_INSIDE, 1 - _INSIDE).logit()
        self._axes, self._back = (each.to(mean) for each in _axes(len(mean), decorrelated))

    def decode(self, maps: Tensor) -> Tensor:
        """The colours of maps [channels, height, width]; gradients go through."""
        return (_turned(maps, self._axes) + self._mean).sigmoid()

    def encode(self, pixels: Tensor) -> Tensor:
        """The maps of colours."""
        inside = pixels.clamp(_INSIDE, 1 - _INSIDE)
        return _turned(inside.logit() - self._mean, self._back)


def _axes(channels: int, decorrelated: bool) -> tuple[Tensor, Tensor]:
    """From axes to channels, and back."""
    if not decorrelated:
        return torch.eye(channels), torch.eye(channels)
    natural = torch.tensor(_NATURAL, dtype=torch.float64)
    natural /= natural.square().sum(dim=0).sqrt().max()
    return natural, natural.inverse()


def _turned(maps: Tensor, axes: Tensor) -> Tensor:
    return (axes @ maps.flatten(1)).view_as(maps)
