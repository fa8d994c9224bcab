"""Positions against NumPy, grids against all permutations, overlaps against a loop."""

import sys
from itertools import permutations

import numpy as np
import pytest

from convlens.client import InvalidRequest
from convlens.client.studies import _layout
from convlens.client.studies._layout import apart, grid, nearest, plane


def codes(count: int, dimensions: int = 20, seed: int = 0):
    return np.random.default_rng(seed).normal(size=(count, dimensions)).astype(np.float32)


def test_pca_is_the_singular_value_decomposition_up_to_sign() -> None:
    values = codes(40) * np.linspace(3, 0.1, 20, dtype=np.float32)
    centred = values - values.mean(axis=0)
    left, sizes, _ = np.linalg.svd(centred.astype(np.float64), full_matrices=False)
    expected = left[:, :2] * sizes[:2]
    made = plane(values, "pca")
    signs = np.sign((made * expected).sum(axis=0))
    np.testing.assert_allclose(made, expected * signs, atol=1e-5)


def test_t_sne_keeps_groups_apart_and_is_the_same_for_a_seed() -> None:
    groups = np.repeat(np.arange(3), 12)
    values = codes(36) + 12 * codes(3, seed=1)[groups]
    made = plane(values, "t-sne", seed=3)
    assert made.shape == (36, 2)
    assert (groups[nearest(made, 5)] == groups[:, None]).all()
    np.testing.assert_array_equal(made, plane(values, "t-sne", seed=3))


@pytest.mark.parametrize("way", ["pca", "t-sne"])
def test_codes_of_one_number_have_a_map(way) -> None:
    made = plane(np.arange(6, dtype=np.float32)[:, None], way)
    assert made.shape == (6, 2) and np.isfinite(made).all()


@pytest.mark.parametrize(
    ("values", "way", "words"),
    [
        (codes(2), "pca", "at least 3 pictures; there are 2"),
        (np.ones((5, 4), np.float32), "t-sne", "All pictures have the same code"),
        (np.full((5, 4), np.nan, np.float32), "pca", "not finite"),
        (codes(5), "tsne", "must be one of t-sne, pca, umap"),
    ],
)
def test_what_has_no_map_is_refused(values, way, words) -> None:
    with pytest.raises(InvalidRequest, match=words):
        plane(values, way)


def test_without_umap_another_way_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(InvalidRequest, match="pip install umap-learn, or choose t-sne or pca"):
        plane(codes(5), "umap")


def test_the_grid_is_the_best_of_all_permutations() -> None:
    points = np.random.default_rng(4).random((6, 2))
    shares = (points - points.min(axis=0)) / np.ptp(points, axis=0)
    # Two rows of three columns, and the upper row is number 0.
    wanted = np.stack([1 - shares[:, 1], 2 * shares[:, 0]], axis=1)
    cells = [(row, column) for row in range(2) for column in range(3)]

    def cost(given) -> float:
        return float(((np.asarray(given) - wanted) ** 2).sum())

    assert cost(grid(points)) == pytest.approx(min(map(cost, permutations(cells))))


@pytest.mark.parametrize("count", [3, 50, 1025, 1600])
def test_no_two_points_share_a_cell(count: int) -> None:
    points = np.random.default_rng(5).normal(size=(count, 2))
    cells = grid(points)
    side = int(np.ceil(np.sqrt(count)))
    assert len({tuple(cell) for cell in cells.tolist()}) == count
    assert cells.min() >= 0 and cells.max() < side
    # To the right of the map is to the right of the grid, and up is up.
    assert np.corrcoef(points[:, 0], cells[:, 1])[0, 1] > 0.85
    assert np.corrcoef(points[:, 1], -cells[:, 0])[0, 1] > 0.85


def test_the_coarser_way_is_little_worse(monkeypatch: pytest.MonkeyPatch) -> None:
    points = np.random.default_rng(6).random((400, 2))

    def cost() -> float:
        cells, shares = grid(points), (points - points.min(axis=0)) / np.ptp(points, axis=0)
        wanted = np.stack([(1 - shares[:, 1]) * 19, shares[:, 0] * 19], axis=1)
        return float(((cells - wanted) ** 2).sum(axis=1).mean())

    best = cost()
    monkeypatch.setattr(_layout, "MOST_CELLS", 25)
    assert best <= cost() < 3 * best


def test_what_is_taken_is_apart() -> None:
    generator = np.random.default_rng(7)
    points, sizes = generator.random((120, 2)), generator.uniform(0.05, 0.2, (120, 2))
    expected: list[int] = []
    for number in range(120):
        overlaps = [
            other
            for other in expected
            if abs(points[number, 0] - points[other, 0]) < (sizes[number, 0] + sizes[other, 0]) / 2
            and abs(points[number, 1] - points[other, 1]) < (sizes[number, 1] + sizes[other, 1]) / 2
        ]
        if not overlaps:
            expected.append(number)
    assert np.flatnonzero(apart(points, sizes)).tolist() == expected
    assert 10 < len(expected) < 120


def test_nearest_are_those_of_all_distances() -> None:
    values = codes(30)
    distances = np.linalg.norm(values[:, None] - values[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    np.testing.assert_array_equal(nearest(values, 4), np.argsort(distances, axis=1)[:, :4])
