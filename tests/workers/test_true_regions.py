"""How regions and maps are scored against where the object truly is."""

from math import hypot

import numpy as np
import pytest

from convlens.contract import Failure
from convlens.v1 import (
    geometry_pb2,
    quality_pb2,
    tensor_pb2,
)
from convlens.workers.localization import (
    Region,
    check_localization,
    check_true_region,
    overlap,
    points_at,
)
from tests.workers.test_localization import (
    POSITIVE,
    SIGNED,
    THRESHOLD,
    UINT8,
    blob,
    geometry,
    localization,
)


def true_mask(mask: np.ndarray) -> quality_pb2.TrueRegion:
    data = (mask * 7).astype(np.uint8).tobytes()
    return quality_pb2.TrueRegion(mask=tensor_pb2.Tensor(dtype=UINT8, shape=mask.shape, data=data))


def true_box(left: float, top: float, right: float, bottom: float) -> quality_pb2.TrueRegion:
    return quality_pb2.TrueRegion(
        box=geometry_pb2.Box(left=left, top=top, right=right, bottom=bottom)
    )


@pytest.mark.parametrize("seed", range(5))
def test_overlap_of_masks_counts_pixels(seed: int) -> None:
    draws = np.random.default_rng(seed)
    ours, theirs = draws.random((2, 13, 17)) < [[[0.2]], [[0.5]]]
    both = either = 0
    for row in range(13):
        for column in range(17):
            both += bool(ours[row, column] and theirs[row, column])
            either += bool(ours[row, column] or theirs[row, column])
    found = overlap(Region.of(ours.astype(np.uint8)), true_mask(theirs))
    assert found == both / either and 0 < found < 1


@pytest.mark.parametrize("seed", range(5))
def test_overlap_of_boxes_is_that_of_areas(seed: int) -> None:
    draws = np.random.default_rng(seed)
    left, top = (int(value) for value in draws.integers(0, 8, 2))
    mask = np.zeros((20, 30), np.uint8)
    mask[top : top + 9, left : left + 12] = 1
    # In quarters of pixels, and over the border.
    x0, y0 = (int(value) / 4 for value in draws.integers(-16, 40, 2))
    x1, y1 = x0 + 15.25, y0 + 13.75
    both = theirs = 0
    for row in range(80):
        for column in range(120):
            y, x = (row + 0.5) / 4, (column + 0.5) / 4
            inside = x0 < x < x1 and y0 < y < y1
            theirs += inside
            both += inside and bool(mask[int(y), int(x)])
    expected = both / (theirs + 9 * 12 * 16 - both)
    assert overlap(Region.of(mask), true_box(x0, y0, x1, y1)) == pytest.approx(expected, abs=1e-12)
    assert 0 < expected < 1


def test_the_same_region_overlaps_wholly_and_another_not_at_all() -> None:
    mask = np.zeros((20, 30), np.uint8)
    mask[3:9, 4:11] = 1
    region = Region.of(mask)
    assert region.box == geometry_pb2.Box(left=4, top=3, right=11, bottom=9)
    assert overlap(region, true_mask(mask)) == overlap(region, true_box(4, 3, 11, 9)) == 1
    assert overlap(region, true_mask(1 - mask)) == overlap(region, true_box(11, 0, 30, 20)) == 0


def test_the_strongest_pixel_is_looked_for_in_the_original() -> None:
    map = 0.5 * blob(64, 50, 10, 5)
    map[40, 20] = 1
    # Of 64 numbers over 128 pixels from (100, 30): at column 100 + 41, row 30 + 81.
    lies = geometry((100, 30, 228, 158), 300, 400)
    assert points_at(map, POSITIVE, lies, true_box(141, 111, 200, 200), 0)
    assert points_at(map, POSITIVE, lies, true_box(0, 0, 138, 107), 5)
    assert not points_at(map, POSITIVE, lies, true_box(0, 0, 138, 107), 4.99)
    assert points_at(map, POSITIVE, lies, true_box(-50, 100, 131, 200), 10)
    assert not points_at(map, POSITIVE, lies, true_box(0, 0, 100, 30), 15)
    # Against the target it speaks strongest elsewhere.
    assert not points_at(map - 9 * blob(64, 5, 5, 5), SIGNED, lies, true_box(100, 30, 120, 50), 3)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("tolerance", [0, 3.5, 15])
def test_the_distance_to_a_mask_is_that_to_its_nearest_pixel(seed: int, tolerance: float) -> None:
    draws = np.random.default_rng(seed)
    mask = draws.random((60, 80)) < 0.004
    mask[30, 40] = True
    map = np.zeros((24, 32))
    row, column = draws.integers(24), draws.integers(32)
    map[row, column] = 1
    lies = geometry((-10, 7, 76, 71.5), 60, 80)
    x, y = -10 + (column + 0.5) * 86 / 32, 7 + (row + 0.5) * 64.5 / 24
    nearest = min(
        hypot(max(c - x, x - c - 1, 0), max(r - y, y - r - 1, 0))
        for r, c in zip(*np.nonzero(mask), strict=True)
    )
    assert points_at(map, POSITIVE, lies, true_mask(mask), tolerance) == (nearest <= tolerance)
    for reach in (nearest * 1.001 + 1e-9, nearest * 0.999 - 1e-9):
        if reach >= 0:
            hit = points_at(map, POSITIVE, lies, true_mask(mask), reach)
            assert hit == (reach > nearest)


GOOD = np.zeros((20, 30), np.uint8)
GOOD[3, 4] = 255
BAD_REGIONS = {
    "box.right: is 3; must be greater than left, which is 5": true_box(5, 1, 3, 9),
    "box.bottom: is 1; must be greater than top, which is 1": true_box(1, 1, 3, 1),
    "box.left: is nan; must be a finite number": true_box(float("nan"), 1, 3, 9),
    "box.bottom: is inf; must be a finite number": true_box(1, 1, 3, float("inf")),
    "box: must touch the picture, which has 20 x 30 pixels": true_box(30, 1, 40, 9),
    "mask: is DATA_TYPE_UINT8 [30, 20]; must be DATA_TYPE_UINT8 [20, 30]": true_mask(GOOD.T),
    "mask: is DATA_TYPE_UINT8 [20, 30, 1]; must be": true_mask(GOOD[..., None]),
    "mask: is 0 everywhere": true_mask(0 * GOOD),
    "mask: is DATA_TYPE_FLOAT32 [20, 30]; must be": quality_pb2.TrueRegion(
        mask=tensor_pb2.Tensor(dtype=tensor_pb2.DATA_TYPE_FLOAT32, shape=[20, 30], data=b"1" * 2400)
    ),
    "mask: is DATA_TYPE_UNSPECIFIED []; must be": quality_pb2.TrueRegion(mask=tensor_pb2.Tensor()),
    "mask: has 7 bytes; must have 600": quality_pb2.TrueRegion(
        mask=tensor_pb2.Tensor(dtype=UINT8, shape=[20, 30], data=b"1" * 7)
    ),
}


@pytest.mark.parametrize("told", BAD_REGIONS)
def test_a_bad_true_region_is_refused_with_its_reason(told: str) -> None:
    with pytest.raises(Failure) as caught:
        check_true_region(BAD_REGIONS[told], 20, 30, "true_regions[2]")
    [violation] = caught.value.violations
    assert f"{violation.field}: {violation.description}".startswith(f"true_regions[2].{told}")


def test_good_true_regions_pass() -> None:
    for region in (
        quality_pb2.TrueRegion(),
        true_mask(GOOD),
        true_box(-5, -5, 0.5, 0.5),
        true_box(29.5, 1, 99, 9),
    ):
        check_true_region(region, 20, 30, "true_regions[0]")


def test_a_background_that_reaches_the_foreground_is_refused() -> None:
    for low, high in ((0.5, 0.5), (0.6, 0.5)):
        with pytest.raises(Failure) as caught:
            check_localization(
                localization(background_quantile=low, foreground_quantile=high), "localization"
            )
        [violation] = caught.value.violations
        assert violation.field == "localization.background_quantile"
        assert "must be less than foreground_quantile, which is 0.5" in violation.description
    check_localization(localization())
    check_localization(localization(method=THRESHOLD, foreground_quantile=0.1))
