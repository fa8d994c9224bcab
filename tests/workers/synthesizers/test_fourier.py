"""Pictures as Fourier coefficients, against the sum of waves that they are."""

import math

import pytest
import torch
from torch import Tensor

from convlens.v1 import synthesis_methods_pb2 as methods
from convlens.workers.synthesizers.fourier import Colors, Spectrum
from convlens.workers.synthesizers.parametrization import Fourier
from tests.workers.synthesizers.fooled import task

SIZES = [(8, 8), (7, 9), (9, 8), (8, 7), (1, 6), (5, 1)]


def random(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def waves(coefficients: Tensor, height: int, width: int, decay_power: float) -> Tensor:
    """One map, wave by wave."""
    found = torch.zeros(height, width, dtype=torch.float64)
    for row in range(height):
        for column in range(width // 2 + 1):
            down = (row if row < (height + 1) // 2 else row - height) / height
            across = column / width
            frequency = max(math.hypot(down, across), 1 / max(height, width))
            real, imaginary = coefficients[row, column].tolist()
            # Others stand for their mirror too.
            times = 1 if column == 0 or 2 * column == width else 2
            for y in range(height):
                for x in range(width):
                    angle = 2 * math.pi * (down * y + across * x)
                    wave = real * math.cos(angle) - imaginary * math.sin(angle)
                    found[y, x] += times * wave / frequency**decay_power
    return found / 4 / math.sqrt(height * width)


@pytest.mark.parametrize("decay_power", [0.0, 1.0, 1.7])
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_maps_are_sums_of_real_waves(height: int, width: int, decay_power: float) -> None:
    spectrum = Spectrum(torch.zeros(2, height, width, dtype=torch.float64), decay_power)
    coefficients = random(*spectrum.blank().shape)
    found = spectrum.decode(coefficients)
    assert found.shape == (2, height, width) and found.dtype == torch.float64
    for each, part in zip(found, coefficients, strict=True):
        expected = waves(part, height, width, decay_power)
        assert expected.abs().max() > 0.1
        assert (each - expected).abs().max() < 1e-12


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_maps_and_their_coefficients_go_round(height: int, width: int) -> None:
    spectrum = Spectrum(torch.zeros(3, height, width), 1.0)
    maps = random(3, height, width).float()
    coefficients = spectrum.encode(maps)
    assert (spectrum.decode(coefficients) - maps).abs().max() < 1e-5
    again = spectrum.encode(spectrum.decode(coefficients))
    assert (again - coefficients).abs().max() < 1e-5 * coefficients.abs().max()


@pytest.mark.parametrize("decorrelated", [False, True])
def test_pictures_and_their_parameters_go_round(decorrelated: bool) -> None:
    form = Fourier(task(canvas=9), 1.0, decorrelated)
    pixels = 0.01 + 0.98 * torch.rand(
        3, 9, 9, generator=torch.Generator().manual_seed(1), dtype=torch.float64
    )
    parameters = form.parameters(pixels)
    assert (form.pixels(parameters) - pixels).abs().max() < 1e-10
    assert (form.parameters(form.pixels(parameters)) - parameters).abs().max() < 1e-9


def test_black_and_white_are_black_and_white_in_8_bits() -> None:
    form = Fourier(task(canvas=8), 1.0, decorrelated=True)
    pixels = (random(3, 8, 8) > 0).double()
    found = form.pixels(form.parameters(pixels))
    assert torch.equal((255 * found).round(), 255 * pixels)


def test_no_waves_are_the_mean_colour() -> None:
    form = Fourier(task(), 1.0, decorrelated=True)
    found = form.pixels(form.start(methods.CANVAS_START_MEAN))
    assert (found - task().blank()).abs().max() < 1e-15
    black = form.pixels(form.start(methods.CANVAS_START_BLACK))
    assert 0 < float(black.max()) < 0.5 / 255


def test_noise_is_small_around_the_mean_colour_and_low_waves_are_the_strongest() -> None:
    form = Fourier(task(canvas=64), 1.0, decorrelated=False)
    coefficients = form.start(methods.CANVAS_START_NOISE)
    assert float(coefficients.std()) == pytest.approx(0.01, rel=0.05)
    pixels = form.pixels(coefficients)
    away = pixels - task(canvas=64).blank()
    assert 0.001 < float(away.std()) < 0.1
    strengths = torch.fft.rfft2(away).abs().mean(dim=0)
    assert strengths[:3, :3].mean() > 5 * strengths[20:40, 20:].mean()


def test_noise_depends_on_the_seed_and_the_number() -> None:
    spectrum = Spectrum(torch.zeros(3, 8, 8), 1.0)
    assert torch.equal(spectrum.noise(1, 0), spectrum.noise(1, 0))
    for other in (spectrum.noise(2, 0), spectrum.noise(1, 1)):
        assert not torch.equal(spectrum.noise(1, 0), other)


def test_the_strongest_axis_of_natural_colours_is_brightness() -> None:
    colors = Colors(torch.full((3, 1, 1), 0.5, dtype=torch.float64), decorrelated=True)
    axes = torch.eye(3, dtype=torch.float64)[..., None]
    found = torch.logit(colors.decode(axes))[..., 0].T
    lengths = found.square().sum(dim=1).sqrt()
    assert lengths.tolist() == sorted(lengths.tolist(), reverse=True)
    assert float(lengths[0]) == pytest.approx(1)
    assert float(found[0].min()) > 0.5


def test_gradients_go_through() -> None:
    form = Fourier(task(canvas=5), 1.0, decorrelated=True)
    start = form.start(methods.CANVAS_START_NOISE).requires_grad_()
    assert torch.autograd.gradcheck(form.pixels, start)
