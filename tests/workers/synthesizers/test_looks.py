"""What pictures look like, against loops over their pixels."""

import pytest
import torch
from torch import Tensor

from convlens.workers.synthesizers.looks import looks_of


def pictures() -> Tensor:
    """From dark to bright, and from plain to noisy."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(40, 3, 9, 12, generator=generator, dtype=torch.float64)
    middle = torch.linspace(0.02, 0.98, 40, dtype=torch.float64).view(-1, 1, 1, 1)
    spread = 0.4 * torch.linspace(0, 1, 8, dtype=torch.float64).pow(3).repeat(5).view(-1, 1, 1, 1)
    return ((middle + (noise - 0.5) * spread).clamp(0, 1) * 255).round() / 255


def by_loops(picture: Tensor, bins: int) -> tuple[int, int]:
    total = change = 0.0
    channels, height, width = picture.shape
    for channel in range(channels):
        for y in range(height):
            for x in range(width):
                value = float(picture[channel, y, x])
                total += value
                if x + 1 < width:
                    change += abs(float(picture[channel, y, x + 1]) - value)
                if y + 1 < height:
                    change += abs(float(picture[channel, y + 1, x]) - value)
    mean, detail = total / picture.numel(), change / picture.numel()
    return min(int(mean * bins), bins - 1), min(int((detail / 0.2) ** 0.5 * bins), bins - 1)


@pytest.mark.parametrize("bins", [2, 4, 5])
def test_they_are_told_apart_by_brightness_and_detail(bins: int) -> None:
    found = looks_of(pictures(), bins)
    expected = [by_loops(picture, bins) for picture in pictures()]
    assert found == [bright * bins + detail for bright, detail in expected]
    assert len({bright for bright, _ in expected}) == bins
    assert len({detail for _, detail in expected}) == bins


def test_a_look_does_not_depend_on_the_other_pictures() -> None:
    alone = [looks_of(picture[None], 4)[0] for picture in pictures()]
    assert looks_of(pictures(), 4) == alone


def test_with_one_bin_all_look_alike() -> None:
    assert looks_of(pictures(), 1) == [0] * 40


def test_black_and_white_are_at_the_ends() -> None:
    assert looks_of(torch.tensor([0.0, 1.0]).view(2, 1, 1, 1).expand(2, 3, 4, 4), 4) == [0, 12]
