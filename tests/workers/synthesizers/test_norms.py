"""The alpha norm and the total variation against closed forms, and their gradients."""

import pytest
import torch
from torch import Tensor

from convlens.workers.synthesizers.regularizers import alpha_norm, total_variation

HEIGHT, WIDTH = 5, 7
BETAS = [1.0, 1.5, 2.0, 3.0, 4.0]


def canvas() -> Tensor:
    return torch.zeros(1, HEIGHT, WIDTH, dtype=torch.float64)


@pytest.mark.parametrize("beta", BETAS)
def test_a_ramp_varies_by_its_slope_at_each_step(beta: float) -> None:
    ramp = canvas() + 0.3 * torch.arange(WIDTH, dtype=torch.float64)
    expected = HEIGHT * (WIDTH - 1) * 0.3**beta
    assert float(total_variation(ramp, beta)) == pytest.approx(expected, rel=1e-12)
    across = ramp.transpose(-1, -2)
    assert float(total_variation(across, beta)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("beta", BETAS)
def test_a_checkerboard_varies_both_ways_but_at_its_edge(beta: float) -> None:
    rows, columns = torch.arange(HEIGHT)[:, None], torch.arange(WIDTH, dtype=torch.float64)
    board = canvas() + (rows + columns) % 2
    inside, edge = (HEIGHT - 1) * (WIDTH - 1), HEIGHT - 1 + WIDTH - 1
    expected = inside * 2 ** (beta / 2) + edge
    assert float(total_variation(board, beta)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("beta", BETAS)
def test_one_pixel_varies_to_its_four_neighbours(beta: float) -> None:
    pixel = canvas()
    pixel[0, 2, 3] = -0.7
    expected = (2 * 0.49) ** (beta / 2) + 2 * 0.7**beta
    assert float(total_variation(pixel, beta)) == pytest.approx(expected, rel=1e-12)


def test_channels_vary_apart() -> None:
    ramp = canvas() + 0.3 * torch.arange(WIDTH, dtype=torch.float64)
    both = torch.cat([ramp, 2 * ramp])
    total = total_variation(ramp, 1.5) + total_variation(2 * ramp, 1.5)
    assert float(total_variation(both, 1.5)) == pytest.approx(float(total), rel=1e-12)


@pytest.mark.parametrize("alpha", [1.0, 2.0, 6.0, 7.5])
def test_the_alpha_norm_is_a_sum_of_powers(alpha: float) -> None:
    pixel = canvas()
    pixel[0, 2, 3], pixel[0, 0, 0] = -0.7, 0.2
    assert float(alpha_norm(pixel, alpha)) == pytest.approx(0.7**alpha + 0.2**alpha, rel=1e-12)


@pytest.mark.parametrize("power", [1.0, 1.5, 2.0, 3.0, 6.0])
def test_gradients_are_those_of_small_differences(power: float) -> None:
    x = torch.randn(2, 4, 5, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    for norm in (alpha_norm, total_variation):
        assert torch.autograd.gradcheck(lambda x, f=norm: f(x, power), x.clone().requires_grad_())


@pytest.mark.parametrize("power", [1.0, 1.5, 2.0, 6.0])
def test_a_flat_picture_has_no_gradient(power: float) -> None:
    for norm in (alpha_norm, total_variation):
        flat = canvas().requires_grad_()
        value = norm(flat, power)
        value.backward()
        assert not value
        assert flat.grad is not None
        assert not flat.grad.any()
