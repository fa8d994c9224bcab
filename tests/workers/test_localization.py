"""Objects found in maps, undone to the original picture, and compared with the truth."""

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from math import pi, sqrt
from typing import Any

import cv2
import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image

from convlens.contract import with_defaults
from convlens.v1 import (
    explanation_pb2,
    geometry_pb2,
    image_pb2,
    network_pb2,
    quality_pb2,
    tensor_pb2,
)
from convlens.workers.images import Pixels, Prepared, prepare
from convlens.workers.localization import (
    localize,
    overlap,
    points_at,
    strength,
)
from convlens.workers.localization.localize import NOWHERE, TOO_FEW
from convlens.workers.localization.segmentation import grabcut, strongest, weakest

POSITIVE = explanation_pb2.MAP_SIGN_NON_NEGATIVE
SIGNED = explanation_pb2.MAP_SIGN_SIGNED
RECONSTRUCTION = explanation_pb2.MAP_SIGN_RECONSTRUCTION
THRESHOLD = quality_pb2.LOCALIZATION_METHOD_THRESHOLD
GRABCUT = quality_pb2.LOCALIZATION_METHOD_GRABCUT
UINT8 = tensor_pb2.DATA_TYPE_UINT8


def localization(**given: Any) -> quality_pb2.Localization:
    return with_defaults(quality_pb2.Localization(**given))


def network_input(side: int = 64, resize: int = 72) -> network_pb2.InputGeometry:
    bilinear = image_pb2.INTERPOLATION_BILINEAR
    return network_pb2.InputGeometry(
        height=side, width=side, channels=3, resize=resize, interpolation=bilinear
    )


def prepared(image: Image.Image, input: network_pb2.InputGeometry) -> Prepared:
    return prepare(Pixels(image), input, image_pb2.GEOMETRY_UNSPECIFIED, "any")


def geometry(
    box: tuple[float, float, float, float], height: int, width: int
) -> explanation_pb2.MapGeometry:
    left, top, right, bottom = box
    crop = geometry_pb2.Box(left=left, top=top, right=right, bottom=bottom)
    return explanation_pb2.MapGeometry(crop=crop, original_height=height, original_width=width)


def geometry_of(found: Prepared) -> explanation_pb2.MapGeometry:
    return geometry(found.box, found.height, found.width)


def blob(side: int, row: float, column: float, sigma: float) -> np.ndarray:
    """A Gaussian around a place of a map, where pixel i reaches from i to i + 1."""
    y, x = np.mgrid[:side, :side] + 0.5
    return np.exp(-((y - row) ** 2 + (x - column) ** 2) / (2 * sigma**2))


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return np.count_nonzero(a & b) / np.count_nonzero(a | b)


SIZES = [(100, 160), (161, 97), (72, 72), (201, 64), (31, 45), (400, 640)]


@pytest.mark.parametrize("resize", [72, 50])
@pytest.mark.parametrize("size", SIZES)
def test_a_blob_gives_a_disc_around_it_in_the_original(size: tuple[int, int], resize: int) -> None:
    height, width = size
    got = prepared(Image.new("RGB", (width, height)), network_input(resize=resize))
    x0, y0, x1, y1 = got.box
    # A third of the way through what the network saw of the picture.
    row, column = (
        64 * ((max(low, 0) * 0.6 + min(high, end) * 0.4) - low) / (high - low)
        for low, high, end in ((y0, y1, height), (x0, x1, width))
    )
    p = localization(method=THRESHOLD)
    map = blob(64, row, column, 9)
    region = localize(map, POSITIVE, Pixels(got.tensor), geometry_of(got), p).region
    assert (
        region is not None and region.mask.shape == size and set(np.unique(region.mask)) == {0, 1}
    )
    # Above the quantile is a twentieth of what the network saw, and the strongest of it a disc.
    saw = (min(y1, height) - max(y0, 0)) * (min(x1, width) - max(x0, 0))
    radius = sqrt(0.05 * saw / pi)
    center_y, center_x = y0 + row / 64 * (y1 - y0), x0 + column / 64 * (x1 - x0)
    pixel = max((y1 - y0) / 64, 1)
    assert region.box.left == pytest.approx(center_x - radius, abs=1.1 * pixel)
    assert region.box.right == pytest.approx(center_x + radius, abs=1.1 * pixel)
    assert region.box.top == pytest.approx(center_y - radius, abs=1.1 * pixel)
    assert region.box.bottom == pytest.approx(center_y + radius, abs=1.1 * pixel)
    y, x = np.mgrid[:height, :width] + 0.5
    disc = np.hypot(y - center_y, x - center_x) < radius
    assert iou(region.mask > 0, disc) > (0.88 if min(size) > 60 else 0.7)


def reference_threshold(map: np.ndarray, quantile: float) -> np.ndarray:
    """Pixel by pixel, with the quantile between two values as the paper's own is."""
    ordered = sorted(map.flat)
    place = quantile * (len(ordered) - 1)
    low, share = int(place), place - int(place)
    limit = ordered[low] + share * (ordered[min(low + 1, len(ordered) - 1)] - ordered[low])
    found = np.zeros(map.shape, bool)
    for row in range(map.shape[0]):
        for column in range(map.shape[1]):
            found[row, column] = map[row, column] > limit
    return found


def reference_largest(mask: np.ndarray) -> np.ndarray:
    """The largest part that hangs together, by walking from every pixel."""
    best: set[tuple[int, int]] = set()
    left = {(int(row), int(column)) for row, column in zip(*np.nonzero(mask), strict=True)}
    while left:
        part, open_ends = set(), [min(left)]
        while open_ends:
            row, column = open_ends.pop()
            if (row, column) in left:
                left.remove((row, column))
                part.add((row, column))
                open_ends += [(row + i, column + j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
        best = max(best, part, key=len)
    found = np.zeros(mask.shape, bool)
    for row, column in best:
        found[row, column] = True
    return found


@pytest.mark.parametrize("largest", [False, True])
@pytest.mark.parametrize("quantile", [0.6, 0.77, 0.95])
def test_thresholding_is_the_papers(quantile: float, largest: bool) -> None:
    map = np.random.default_rng(3).random((21, 34))
    p = localization(method=THRESHOLD, foreground_quantile=quantile, largest_component=largest)
    picture = Pixels(torch.zeros(3, 21, 34))
    region = localize(map, POSITIVE, picture, geometry((0, 0, 34, 21), 21, 34), p).region
    expected = reference_threshold(map, quantile)
    if largest:
        assert reference_largest(expected).sum() < expected.sum(), "nothing is compared"
        expected = reference_largest(expected)
    assert region is not None and np.array_equal(region.mask, expected)


def test_a_plateau_above_the_quantile_is_foreground() -> None:
    map = np.zeros((20, 20))
    map[4:12, 3:13] = 0.7
    for size in (20, 60):
        picture = Pixels(torch.zeros(3, size, size))
        found = localize(
            map, POSITIVE, picture, geometry((0, 0, 20, 20), 20, 20), localization(method=THRESHOLD)
        )
        assert found.region is not None
        assert found.region.box == geometry_pb2.Box(left=3, top=4, right=13, bottom=12)


def disc(height: int, width: int, row: int, column: int, radius: int) -> tuple[Any, np.ndarray]:
    """A picture of a red disc with some texture on a green ground, and its mask."""
    noise = np.random.default_rng(0).normal(0, 12, (height, width, 3))
    y, x = np.mgrid[:height, :width] + 0.5
    mask = np.hypot(y - row, x - column) < radius
    colors = np.where(mask[..., None], (200, 60, 40), (40, 120, 90)) + noise
    return Image.fromarray(colors.clip(0, 255).astype(np.uint8)), mask


@pytest.mark.parametrize(
    "place", [(300, 451, 160, 200, 70), (451, 300, 250, 140, 70), (64, 64, 30, 33, 14)]
)
def test_grabcut_finds_the_whole_object(place: tuple[int, int, int, int, int]) -> None:
    height, width, row, column, radius = place
    image, mask = disc(*place)
    got = prepared(image, network_input(128, 128))
    x0, y0, x1, y1 = got.box
    # The map knows but the middle of it.
    inner = blob(128, (row - y0) / (y1 - y0) * 128, (column - x0) / (x1 - x0) * 128, 12)
    for p, least in ((localization(), 0.93), (localization(iterations=1), 0.9)):
        found = localize(inner, POSITIVE, Pixels(got.tensor), geometry_of(got), p)
        assert found.note == "" and found.region is not None
        assert iou(found.region.mask > 0, mask) > least
        box, near = found.region.box, 0.02 * max(height, width) + 2
        assert [box.left, box.right] == pytest.approx([column - radius, column + radius], abs=near)
        assert [box.top, box.bottom] == pytest.approx([row - radius, row + radius], abs=near)
    rough = localize(
        inner, POSITIVE, Pixels(got.tensor), geometry_of(got), localization(method=THRESHOLD)
    )
    assert rough.region is not None and iou(rough.region.mask > 0, mask) < 0.8


def test_the_first_colours_are_of_what_is_sure() -> None:
    image, mask = disc(60, 80, 30, 40, 12)
    colors = np.asarray(image)
    map = blob(80, 30, 40, 8)[:60]
    first = grabcut(colors, strongest(map, 0.95), weakest(map, 0.3), 1)
    # OpenCV's own start counts all that is not sure to the background.
    labels = np.full(map.shape, cv2.GC_PR_BGD, np.uint8)
    labels[weakest(map, 0.3)], labels[strongest(map, 0.95)] = cv2.GC_BGD, cv2.GC_FGD
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(colors, labels, (0, 0, 0, 0), *models, 1, cv2.GC_INIT_WITH_MASK)
    assert first is not None and iou(first, mask) > max(0.97, iou(labels % 2 == 1, mask) - 0.01)


@pytest.fixture(scope="module")
def cat() -> tuple[np.ndarray, Pixels, explanation_pb2.MapGeometry]:
    got = prepared(Image.fromarray(skimage.data.chelsea()), network_input(96, 96))
    return blob(96, 50, 55, 20), Pixels(got.tensor), geometry_of(got)


@pytest.fixture
def threads() -> Iterator[None]:
    before = cv2.getNumThreads()
    yield
    cv2.setNumThreads(before)


def test_grabcut_depends_on_nothing_but_what_it_is_given(cat: Any, threads: None) -> None:
    map, picture, lies = cat
    seeds = [2, 3, 4, 5, 6, 7, 8, 9]

    def mask(seed: int, map: np.ndarray = map) -> bytes:
        cv2.setRNGSeed(seed)
        found = localize(map, POSITIVE, picture, lies, localization(iterations=3))
        assert found.region is not None and found.note == ""
        return found.region.mask.tobytes()

    first = mask(1)
    with ThreadPoolExecutor(4) as pool:
        others = [pool.submit(mask, seed, map.T.copy()) for seed in seeds]
        assert {*pool.map(mask, seeds)} == {first}
        assert len({other.result() for other in others} - {first}) == 1
    for count in (1, 3, 8):
        cv2.setNumThreads(count)
        assert mask(0) == first


def test_without_a_seed_of_our_own_grabcut_would_differ(cat: Any) -> None:
    """That the test above can fail."""
    map, picture, _ = cat
    values = picture.values
    assert isinstance(values, torch.Tensor)
    colors = (values.numpy().transpose(1, 2, 0) * 255).round().astype(np.uint8)
    found: set[bytes] = set()
    for seed in range(6):
        labels = np.full(map.shape, cv2.GC_PR_BGD, np.uint8)
        labels[weakest(map, 0.3)], labels[strongest(map, 0.95)] = cv2.GC_BGD, cv2.GC_FGD
        models = np.zeros((1, 65)), np.zeros((1, 65))
        cv2.setRNGSeed(seed)
        cv2.grabCut(colors, labels, (0, 0, 0, 0), *models, 1, cv2.GC_INIT_WITH_MASK)
        found.add(models[0].tobytes())
    assert len(found) > 1


def test_of_a_signed_map_what_speaks_for_the_target_is_found() -> None:
    map = blob(64, 20, 20, 6) - 3 * blob(64, 44, 44, 6)
    picture, lies = Pixels(torch.zeros(3, 64, 64)), geometry((0, 0, 64, 64), 64, 64)
    for method in (THRESHOLD, GRABCUT):
        found = localize(map, SIGNED, picture, lies, localization(method=method)).region
        assert found is not None and found.mask[20, 20] == 1 and found.mask[44, 44] == 0
    found = localize(map, RECONSTRUCTION, picture, lies, localization(method=THRESHOLD)).region
    assert found is not None and found.mask[20, 20] == 0 and found.mask[44, 44] == 1


def test_what_speaks_against_the_target_may_be_the_object() -> None:
    image, mask = disc(64, 64, 32, 32, 20)
    got = prepared(image, network_input(64, 64))
    # Grains of both signs in the object, and next to nothing outside.
    grains = np.random.default_rng(0).normal(size=(64, 64)) * np.where(mask, 1, 0.01)
    found = localize(grains, SIGNED, Pixels(got.tensor), geometry_of(got), localization()).region
    assert found is not None and iou(found.mask > 0, mask) > 0.95


def test_channels_become_one_number() -> None:
    map = np.random.default_rng(0).normal(size=(4, 5, 3))
    assert np.allclose(strength(map, SIGNED), np.maximum(map.sum(2), 0))
    assert np.allclose(strength(map, RECONSTRUCTION), np.abs(map).max(2))
    assert np.allclose(strength(np.abs(map), POSITIVE), np.abs(map).max(2))
    assert np.array_equal(strength(map[..., :1], SIGNED), np.maximum(map[..., 0], 0))


NOTHING = {
    "zeros": np.zeros((24, 24)),
    "constant": np.full((24, 24), 0.3),
    "negative": -np.random.default_rng(0).random((24, 24)),
    "NaN": np.full((24, 24), np.nan),
    "one number": np.ones((1, 1)),
}


@pytest.mark.parametrize("method", [THRESHOLD, GRABCUT])
@pytest.mark.parametrize("name", NOTHING)
def test_in_a_map_that_points_nowhere_nothing_is_found(name: str, method: Any) -> None:
    picture, lies = Pixels(torch.rand(3, 50, 50)), geometry((0, 0, 24, 24), 24, 24)
    found = localize(NOTHING[name], SIGNED, picture, lies, localization(method=method))
    assert found.region is None and found.note == NOWHERE
    truth = quality_pb2.TrueRegion(box=geometry_pb2.Box(right=9, bottom=9))
    assert overlap(found.region, truth) == 0
    assert not points_at(NOTHING[name], SIGNED, lies, truth, 1000)


@pytest.mark.parametrize("size", [(1, 2), (2, 2), (3, 3), (1, 16384), (16384, 1), (5, 700)])
@pytest.mark.parametrize("side", [2, 3, 64])
def test_the_smallest_and_thinnest_pictures_give_a_region(size: tuple[int, int], side: int) -> None:
    image = Image.new("RGB", (size[1], size[0]), "red")
    got = prepared(image, network_input(side, side))
    map = np.random.default_rng(0).random((side, side))
    found = localize(map, POSITIVE, Pixels(got.tensor), geometry_of(got), localization())
    assert found.region is not None and found.region.mask.shape == size
    assert found.region.mask.any() and (found.note == TOO_FEW) == (side < 64)


def test_with_too_few_sure_pixels_the_threshold_decides_and_says_so() -> None:
    map = np.random.default_rng(0).random((8, 8))
    picture, lies = Pixels(torch.rand(3, 8, 8)), geometry((0, 0, 8, 8), 8, 8)
    found = localize(map, POSITIVE, picture, lies, localization())
    plain = localize(map, POSITIVE, picture, lies, localization(method=THRESHOLD))
    assert found.note == TOO_FEW and found.region is not None and plain.region is not None
    assert plain.note == "" and np.array_equal(found.region.mask, plain.region.mask)


EXTREMES = {
    "tiny": np.random.default_rng(0).random((40, 40)) * 1e-310,
    "huge": np.random.default_rng(0).random((40, 40)) * 1e300,
    "infinite": np.where(np.eye(40) > 0, np.inf, 1.0),
    "some NaN": np.where(np.eye(40) > 0, np.nan, 1.0),
    "one pixel": np.where(np.arange(1600).reshape(40, 40) == 777, 1.0, 0.0),
    "half": (np.random.default_rng(0).random((40, 40)) * 60000).astype(np.float16),
    "coarse": np.random.default_rng(0).random((3, 2)),
}


@pytest.mark.parametrize("method", [THRESHOLD, GRABCUT])
@pytest.mark.parametrize("name", EXTREMES)
def test_every_number_gives_a_region_without_a_warning(name: str, method: Any) -> None:
    for picture in (torch.rand(3, 40, 40), torch.zeros(1, 40, 40), torch.ones(3, 700, 300)):
        lies = geometry((-5, 0, 35, 40), 60, 30)
        for map in (EXTREMES[name], np.stack([EXTREMES[name]] * 3, axis=2)):
            found = localize(map, SIGNED, Pixels(picture), lies, localization(method=method))
            assert found.region is not None and found.region.mask.any()


def test_padding_is_not_the_object() -> None:
    # The network saw 64 x 64 of which the picture is the middle half.
    lies = geometry((-16, -16, 48, 48), 32, 32)
    strong_outside = blob(64, 5, 5, 4) + 0.1 * blob(64, 34, 30, 4)
    for method in (THRESHOLD, GRABCUT):
        picture = Pixels(torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0)))
        found = localize(strong_outside, POSITIVE, picture, lies, localization(method=method))
        assert found.region is not None and found.region.mask[18, 14] == 1
    nothing_inside = np.where(blob(64, 5, 5, 3) > 1e-3, 1.0, 0)
    found = localize(nothing_inside, POSITIVE, Pixels(torch.rand(3, 64, 64)), lies, localization())
    assert found.region is None


def test_what_is_smaller_than_a_pixel_is_a_pixel() -> None:
    map = blob(200, 130, 70, 2)
    p = localization(method=THRESHOLD, foreground_quantile=0.9999)
    picture, lies = Pixels(torch.zeros(3, 200, 200)), geometry((0, 0, 8, 8), 8, 8)
    region = localize(map, POSITIVE, picture, lies, p).region
    assert region is not None and region.box == geometry_pb2.Box(left=2, top=5, right=3, bottom=6)


def test_a_map_of_the_whole_is_not_changed() -> None:
    map = blob(64, 20, 20, 6)
    before, picture = map.copy(), torch.rand(3, 64, 64)
    kept = picture.clone()
    localize(map, POSITIVE, Pixels(picture), geometry((0, 0, 64, 64), 64, 64), localization())
    assert np.array_equal(map, before) and torch.equal(picture, kept)


def test_nobody_waits_for_opencv_who_does_not_localise() -> None:
    code = "import sys, convlens.workers.localization; print('cv2' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"]
