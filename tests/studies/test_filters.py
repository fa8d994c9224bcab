"""Verdicts on filters that are known to be of a kind, and their measures against loops."""

import numpy as np
import pytest
from scipy.fft import dct

from convlens.client.studies._filters import (
    contrast_of,
    judged,
    roughness_of,
    smooth_share,
    spread_of,
)

RANDOM = np.random.default_rng(1)
SHAPE = (24, 3, 5, 5)


def gabors(count: int, side: int, noise: float = 0.0) -> np.ndarray:
    """Filters as the lectures show them: edges and bars of all directions in some colours."""
    at = np.arange(side) - (side - 1) / 2
    rows, columns = np.meshgrid(at, at, indexing="ij")
    made = []
    for number in range(count):
        angle, colour = np.pi * number / count, RANDOM.standard_normal(3)
        along = np.cos(angle) * rows + np.sin(angle) * columns
        wave = np.cos(2 * np.pi * along / (1.2 * side) + (number % 4) * np.pi / 2)
        plane = wave * np.exp(-(rows**2 + columns**2) / (side / 1.5) ** 2)
        one = colour[:, None, None] * plane
        grain = RANDOM.standard_normal(one.shape)
        made.append(one / np.linalg.norm(one) + noise * grain / np.linalg.norm(grain))
    return np.stack(made)


def test_edges_and_bars_are_fine() -> None:
    for side in (3, 5, 7, 11):
        assert judged("conv", gabors(32, side)).verdict == "fine"


@pytest.mark.parametrize("shape", [(24, 3, 3, 3), (64, 3, 7, 7), (8, 1, 5, 5)])
def test_white_noise_is_noisy_and_lacks_structure(shape: tuple[int, ...]) -> None:
    for _ in range(5):
        found = judged("conv", RANDOM.standard_normal(shape))
        assert found.verdicts == ("too noisy", "lacks structure")
        assert abs(found.told_apart) < 3.5


def test_noise_over_edges_is_noisy_from_some_point_on() -> None:
    verdicts = [judged("conv", gabors(32, 7, noise)).verdicts for noise in (0.3, 1.0, 3.0)]
    assert [("too noisy" in verdict) for verdict in verdicts] == [False, False, True]
    # There is structure under it all the same.
    assert "lacks structure" not in verdicts[1]


def test_the_smooth_share_is_the_share_that_was_put_in() -> None:
    edge = np.ones((1, 3, 5, 5))
    edge[..., :2] = -1
    for share in (0.0, 0.3, 1.0):
        rough = RANDOM.standard_normal((4000, 3, 5, 5))
        rough *= np.sqrt(edge.size / np.square(rough).sum((1, 2, 3), keepdims=True))
        mixed = np.sqrt(share) * edge + np.sqrt(1 - share) * rough
        assert smooth_share(roughness_of(mixed), mixed.shape) == pytest.approx(share, abs=0.02)


def test_repeated_filters_are_too_correlated() -> None:
    few = gabors(6, 7)
    found = judged("conv", np.concatenate([few, 2 * few, few + 0.001]))
    assert found.verdict == "too correlated"
    assert found.twins == 1 and found.closest == pytest.approx(1, abs=1e-3)
    # The opposite of a filter sees what the other does not, after rectification.
    assert judged("conv", np.concatenate([few, -few])).twins == 0


def test_flat_filters_lack_structure() -> None:
    flat = RANDOM.standard_normal((16, 3, 1, 1)) * np.ones((1, 1, 5, 5))
    assert "lacks structure" in judged("conv", flat).verdicts


def test_silent_filters_are_counted_and_left_out() -> None:
    weights = gabors(12, 5)
    weights[[2, 7]] *= 1e-4
    found = judged("conv", weights)
    assert found.silent == (2, 7) and np.isnan(found.roughness[[2, 7]]).all()
    assert found.verdict == "fine"
    nothing = judged("conv", np.zeros(SHAPE))
    assert nothing.verdict == "lacks structure" and len(nothing.silent) == 24


def test_measures_are_those_of_loops() -> None:
    weights = RANDOM.standard_normal(SHAPE)
    energies = np.zeros(SHAPE[1:])
    for number, one in enumerate(weights):
        differ, pairs = 0.0, 0
        for plane in one:
            for row in range(5):
                for column in range(5):
                    for other in ((row + 1, column), (row, column + 1)):
                        if max(other) < 5:
                            differ += (plane[row, column] - plane[other]) ** 2
                            pairs += 1
        assert roughness_of(weights)[number] == pytest.approx(
            differ / pairs / (2 * (one**2).mean())
        )
        level = sum(25 * plane.mean() ** 2 for plane in one) / (one**2).sum()
        assert contrast_of(weights)[number] == pytest.approx((1 - level) / (1 - 1 / 25))
        for axis in range(3):
            one = np.asarray(dct(one, axis=axis, norm="ortho"))
        energies += one**2 / (one**2).sum() / len(weights)
    entropy = -sum(energy * np.log(energy) for energy in energies.ravel())
    assert spread_of(weights) == pytest.approx(np.exp(entropy))
    cosines = judged("conv", weights).cosines
    for first, second in ((0, 0), (3, 17)):
        a, b = weights[first].ravel(), weights[second].ravel()
        expected = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
        assert cosines[first, second] == pytest.approx(expected)
