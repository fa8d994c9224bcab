"""The random moves of a picture, against turns and rolls of its pixels."""

import math

import pytest
import torch
from torch import Tensor

from convlens.v1 import synthesis_methods_pb2 as methods
from convlens.workers.synthesizers.transforms import moved, resampled
from tests.workers.synthesizers.fooled import task


def picture(height: int = 9, width: int = 9) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.rand(3, height, width, generator=generator, dtype=torch.float64)


def close(a: Tensor, b: Tensor, limit: float = 1e-12) -> bool:
    return a.shape == b.shape and bool((a - b).abs().max() <= limit)


def test_where_nothing_is_asked_for_the_picture_is_what_it_was() -> None:
    pixels = picture()
    assert moved(task(canvas=9), methods.Priors(), pixels, 3) is pixels


@pytest.mark.parametrize("size", [(9, 9), (8, 5)])
def test_a_move_by_nothing_changes_nothing(size: tuple[int, int]) -> None:
    assert close(resampled(picture(*size), 0, (0, 0), 1, 0), picture(*size))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("down", "right"), [(2, 0), (0, -3), (-1, 4)])
def test_a_shift_by_whole_pixels_rolls_them_and_brings_grey(
    down: int, right: int, dtype: torch.dtype
) -> None:
    pixels = picture(8, 11).to(dtype)
    expected = pixels.roll((down, right), (1, 2))
    rows, columns = torch.arange(8)[:, None] - down, torch.arange(11) - right
    outside = (rows < 0) | (rows >= 8) | (columns < 0) | (columns >= 11)
    assert outside.any()
    expected[:, outside] = 0.5
    limit = 1e-12 if dtype == torch.float64 else 1e-5
    assert close(resampled(pixels, 0, (down, right), 1, 0), expected, limit)


@pytest.mark.parametrize("size", [8, 9])
@pytest.mark.parametrize("turns", [1, 2, 3, -1])
def test_quarter_turns_are_exact(size: int, turns: int) -> None:
    pixels = picture(size, size)
    found = resampled(pixels, 0, (0, 0), 1, turns * math.pi / 2)
    assert close(found, pixels.rot90(turns, (1, 2)), 1e-9)


def test_twice_the_size_has_half_the_slope() -> None:
    ramp = (0.1 * torch.arange(9, dtype=torch.float64)).expand(3, 9, 9)
    found = resampled(ramp, 0, (0, 0), 2, 0)
    assert close(found, 0.4 + (ramp - 0.4) / 2)


def test_a_border_makes_room_for_grey_and_the_picture_smaller() -> None:
    white = torch.ones(1, 12, 16, dtype=torch.float64)
    found = resampled(white, 4, (0, 0), 1, 0)
    assert close(found[:, :2], torch.full((1, 2, 16), 0.5, dtype=torch.float64))
    assert close(found[:, 4:8, 4:12], torch.ones(1, 4, 8, dtype=torch.float64))
    # Of 20 x 24 pixels, 12 x 16 are white.
    share = float((found - 0.5).mean() * 2)
    assert share == pytest.approx(12 * 16 / (20 * 24), rel=0.01)


def test_the_shift_is_of_the_picture_however_large_it_is_shown() -> None:
    dot = torch.full((1, 9, 9), 0.5, dtype=torch.float64)
    dot[0, 4, 4] = 1
    found = resampled(dot, 0, (1, 2), 2, 0)
    assert divmod(int(found.argmax()), 9) == (4 + 2, 4 + 4)


def test_gradients_are_those_of_small_differences() -> None:
    pixels = picture(4, 5).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: resampled(x, 1, (0.3, -0.4), 1.1, 0.2), pixels)


def shift_of(priors: methods.Priors, **given: int) -> tuple[int, int]:
    """How far a dot in the middle is moved."""
    dot = torch.full((3, 25, 25), 0.5, dtype=torch.float64)
    dot[:, 12, 12] = 1
    found = moved(task(canvas=25, seed=given.get("seed", 0)), priors, dot, given["step"])
    assert float(found.max()) == pytest.approx(1, abs=1e-9)
    row, column = divmod(int(found[0].argmax()), 25)
    return row - 12, column - 12


def test_shifts_are_whole_pixels_up_to_the_largest_to_all_sides() -> None:
    shifts = [shift_of(methods.Priors(jitter=2), step=step) for step in range(300)]
    assert set(shifts) == {(down, right) for down in range(-2, 3) for right in range(-2, 3)}


def test_angles_and_sizes_keep_their_bounds_and_use_them() -> None:
    # A dot right of the middle tells both.
    dot = torch.full((3, 101, 101), 0.5, dtype=torch.float64)
    dot[:, 49:52, 89:92] = 1
    priors = methods.Priors(rotation=30, scale=0.2)
    angles: list[float] = []
    sizes: list[float] = []
    for step in range(200):
        light = moved(task(canvas=101), priors, dot, step)[0] - 0.5
        rows, columns = torch.meshgrid(*2 * [torch.arange(101.0) - 50], indexing="ij")
        y, x = (float((light * each).sum() / light.sum()) for each in (rows, columns))
        angles.append(math.degrees(math.atan2(-y, x)))
        sizes.append(math.hypot(x, y) / 40)
    assert -30.5 < min(angles) < -25 and 25 < max(angles) < 30.5
    # At most 50 pixels are seen, so of the largest sizes only a part.
    assert 0.79 < min(sizes) < 0.83 and 1.15 < max(sizes) < 1.21


def test_a_move_depends_on_the_seed_and_the_step_alone() -> None:
    priors = methods.Priors(padding=2, jitter=3, scale=0.1, rotation=10)
    one, other = picture(), picture().flip(1)
    moves = [
        moved(task(canvas=9, seed=seed), priors, one, step) for seed in (1, 2) for step in range(3)
    ]
    for n, found in enumerate(moves):
        again = moved(task(canvas=9, seed=1 + n // 3), priors, one, n % 3)
        assert torch.equal(found, again)
        assert all(not torch.equal(found, each) for each in moves[:n])
    # The move is linear: that of a sum is the sum of the moves, whatever was moved before.
    both = moved(task(canvas=9, seed=2), priors, (one + other) / 2, 2)
    apart = moved(task(canvas=9, seed=2), priors, other, 2)
    assert close((moves[-1] + apart) / 2, both)
