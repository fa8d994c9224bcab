"""The squared distance from a colour, and total variation where it has a corner."""

import pytest
import torch

from convlens.workers.synthesizers.regularizers import squared_distance, total_variation


def test_the_distance_is_that_of_each_channel_from_its_mean() -> None:
    mean = torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64).view(3, 1, 1)
    pixels = mean + torch.tensor([0.1, -0.2, 0.3], dtype=torch.float64).view(3, 1, 1)
    found = squared_distance(pixels.expand(3, 4, 5), mean)
    assert float(found) == pytest.approx(4 * 5 * (0.01 + 0.04 + 0.09), rel=1e-12)


@pytest.mark.parametrize("beta", [1.0, 1.5, 2.0, 3.0])
def test_flat_places_have_neither_variation_nor_a_gradient(beta: float) -> None:
    pixels = torch.full((2, 5, 6), 0.3, dtype=torch.float64, requires_grad=True)
    total = total_variation(pixels, beta)
    [found] = torch.autograd.grad(total, pixels)
    assert float(total.detach()) == 0 and not found.any()


def test_the_gradient_beside_flat_places_is_that_of_small_differences() -> None:
    pixels = torch.full((1, 5, 6), 0.3, dtype=torch.float64)
    pixels[0, :, 3:] = 0.8
    pixels.requires_grad_()
    [found] = torch.autograd.grad(total_variation(pixels, 1.0), pixels)
    # Raising one column of the step's foot by h lowers the step by h in each of 5 rows.
    assert found[0, :, 2].tolist() == pytest.approx([-1.0] * 5)
    assert found[0, :, 3].tolist() == pytest.approx([1.0] * 5)
    assert not found[0, :, [0, 1, 4, 5]].any()
