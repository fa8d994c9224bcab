"""The drawn pictures of `shapes`: determinism, independent attributes, exact masks."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from convlens.workers.shapes import marks, samples, textures, tones
from convlens.workers.shapes.dataset import HELD_OUT, batches, dataset
from convlens.workers.shapes.draw import CLASSES, coverage, draw
from convlens.workers.shapes.outlines import CRESCENT_BITE, CRESCENT_SHIFT, OUTLINES, RING_HOLE
from convlens.workers.shapes.scene import CENTRES, SCALES, plan

GIVEN: dict[str, Any] = {
    "label": 5,
    "position": (0.4, 0.6),
    "scale": 0.22,
    "rotation": 33.0,
    "colour": (250, 120, 30),
}


def test_a_seed_draws_the_same_bits_every_time_and_another_seed_does_not() -> None:
    one, again, other = draw(7), draw(7), draw(8)
    assert one.scene == again.scene
    assert np.array_equal(one.image, again.image)
    assert np.array_equal(one.mask, again.mask)
    assert not np.array_equal(one.image, other.image)


def test_shapes_types_and_sizes() -> None:
    for size in (64, 128, 200):
        picture = draw(3, size=size)
        assert picture.image.shape == (size, size, 3) and picture.image.dtype == np.uint8
        assert picture.mask.shape == (size, size) and picture.mask.dtype == np.bool_
        assert picture.label == picture.scene.label


def test_processes_draw_the_pictures_that_one_draws() -> None:
    seeds = range(100, 160)
    alone = dataset(seeds)
    together = list(batches(seeds, 9, processes=2))
    assert np.array_equal(alone.images, np.concatenate([part.images for part in together]))
    assert np.array_equal(alone.masks, np.concatenate([part.masks for part in together]))
    assert np.array_equal(alone.labels, np.concatenate([part.labels for part in together]))
    assert np.array_equal(alone.images[42], draw(142).image)


def test_batches_keep_the_order_and_the_remainder() -> None:
    parts = list(batches(range(10), 4))
    assert [len(part.labels) for part in parts] == [4, 4, 2]
    assert np.array_equal(parts[2].images[1], draw(9).image)


@pytest.mark.parametrize("attribute", ["label", "position", "scale", "rotation"])
def test_giving_one_attribute_changes_no_other(attribute: str) -> None:
    for seed in range(40):
        own, varied = plan(seed), plan(seed, **{attribute: GIVEN[attribute]})
        assert getattr(varied, attribute) == GIVEN[attribute]
        assert replace(varied, **{attribute: getattr(own, attribute)}) == own


def test_giving_the_colour_changes_no_other() -> None:
    for seed in range(40):
        own, varied = plan(seed), plan(seed, colour=GIVEN["colour"])
        assert varied.colour == GIVEN["colour"]
        surface = replace(varied.surface, tones=own.surface.tones)
        assert replace(varied, surface=surface) == own


def test_giving_everything_gives_just_that() -> None:
    scene = draw(11, **GIVEN).scene
    assert {name: getattr(scene, name) for name in GIVEN} == GIVEN


@pytest.mark.parametrize("attribute", sorted(GIVEN))
def test_pixels_change_only_where_the_object_is_or_was(attribute: str) -> None:
    own, varied = draw(21), draw(21, **{attribute: GIVEN[attribute]})
    touched = (coverage(own.scene) > 0) | (coverage(varied.scene) > 0)
    assert np.array_equal(own.image[~touched], varied.image[~touched])
    assert not np.array_equal(own.image[touched], varied.image[touched])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"label": len(CLASSES)}, "label is 10, must be in 0..9"),
        ({"label": -1}, "label is -1, must be in 0..9"),
        ({"scale": 0.0}, "scale is 0.0, must be above 0 and at most 1"),
        ({"scale": 1.1}, "scale is 1.1, must be above 0 and at most 1"),
    ],
)
def test_what_cannot_be_drawn_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        draw(0, **given)


def test_a_circle_is_its_closed_form_region() -> None:
    size, scale, (x, y) = 128, 0.2371, (0.4567, 0.5123)
    picture = draw(5, label=CLASSES.index("circle"), scale=scale, position=(x, y))
    fine = 40
    centres = (np.arange(size * fine) + 0.5) / fine
    inside = np.hypot(centres - x * size, centres[:, None] - y * size) < scale * size
    truth = inside.reshape(size, fine, size, fine).mean(axis=(1, 3))
    # A pixel whose truth is a half, to the renderer's own resolution, may go either way.
    clear = np.abs(truth - 0.5) > 0.03
    assert np.array_equal(picture.mask[clear], truth[clear] > 0.5)
    assert clear.mean() > 0.998
    assert np.abs(coverage(picture.scene) - truth).max() <= 1 / 14 + 1 / fine


@pytest.mark.parametrize("name", CLASSES)
def test_coverage_is_that_of_a_drawing_many_times_finer(name: str) -> None:
    scene = plan(17, label=CLASSES.index(name))
    fine = 12
    truth = (coverage(scene, 128 * fine) > 0.5).reshape(128, fine, 128, fine).mean(axis=(1, 3))
    assert np.abs(coverage(scene) - truth).max() < 0.13
    assert np.abs(coverage(scene) - truth).mean() < 1e-3
    mask = draw(17, label=scene.label).mask
    assert (mask & (truth > 0.5)).sum() / (mask | (truth > 0.5)).sum() > 0.99


def _turned(radius: float, degrees: float) -> tuple[float, float]:
    turn = np.deg2rad(degrees)
    return (radius * float(np.sin(turn)), -radius * float(np.cos(turn)))


CORNERS: dict[str, list[tuple[float, float]]] = {
    "triangle": [_turned(1, 120 * k) for k in range(3)],
    "square": [_turned(1, 45 + 90 * k) for k in range(4)],
    "pentagon": [_turned(1, 72 * k) for k in range(5)],
    "star": [_turned(1 if k % 2 == 0 else 0.45, 36 * k) for k in range(10)],
    "arrow": [
        *((0, -1), (0.8, -0.05), (0.29, -0.05), (0.29, 0.95)),
        *((-0.29, 0.95), (-0.29, -0.05), (-0.8, -0.05)),
    ],
}


@pytest.mark.parametrize("name", CORNERS)
def test_polygons_are_the_ones_another_program_fills(name: str) -> None:
    size, scale, position = 1024, 0.3, (0.47, 0.52)
    scene = plan(0, label=CLASSES.index(name), scale=scale, position=position, rotation=0.0)
    mask = coverage(scene, size) > 0.5
    canvas = Image.new("1", (size, size))
    corners = [
        ((position[0] + scale * x) * size - 0.5, (position[1] + scale * y) * size - 0.5)
        for x, y in CORNERS[name]
    ]
    ImageDraw.Draw(canvas).polygon(corners, fill=1)
    filled = np.asarray(canvas)
    assert (mask & filled).sum() / (mask | filled).sum() > 0.99


def _lens(one: float, other: float, apart: float) -> float:
    """The area that two overlapping discs share."""
    reach = (apart**2 + one**2 - other**2) / (2 * apart)
    rest = apart - reach
    return float(
        one**2 * np.arccos(reach / one)
        - reach * np.sqrt(one**2 - reach**2)
        + other**2 * np.arccos(rest / other)
        - rest * np.sqrt(other**2 - rest**2)
    )


ARM = (1 - 0.3**2) ** 0.5
AREAS = {
    "circle": np.pi,
    "ring": np.pi * (1 - RING_HOLE**2),
    "crescent": np.pi - _lens(1.0, CRESCENT_BITE, CRESCENT_SHIFT),
    "heart": (1 + np.pi / 4) / 0.8918**2,
    "cross": 4 * 2 * 0.3 * ARM - (2 * 0.3) ** 2,
}


@pytest.mark.parametrize("name", AREAS)
def test_the_others_have_the_area_of_their_formula(name: str) -> None:
    size, scale = 512, 0.29
    covered = coverage(plan(2, label=CLASSES.index(name), scale=scale), size)
    assert covered.sum() == pytest.approx(AREAS[name] * (scale * size) ** 2, rel=1e-3)


def test_polygons_and_formulas_are_all_the_classes() -> None:
    assert set(CORNERS) | set(AREAS) == set(CLASSES)
    assert len(CLASSES) >= 10


@pytest.mark.parametrize("name", CLASSES)
def test_outlines_are_bounded_by_the_true_distance(name: str) -> None:
    rng = np.random.default_rng(0)
    here, there = rng.uniform(-1.6, 1.6, (2, 2, 50_000))
    depth_here, depth_there = OUTLINES[name](*here), OUTLINES[name](*there)
    across = depth_here * depth_there < 0
    apart = np.hypot(*(here - there))
    # Between two points on either side lies the outline, no nearer than the function says.
    assert across.sum() > 5_000
    assert (np.maximum(np.abs(depth_here), np.abs(depth_there))[across] <= apart[across]).all()


@pytest.mark.parametrize("name", CLASSES)
def test_every_class_fits_its_circle_and_reaches_it(name: str) -> None:
    turn = np.linspace(0, 2 * np.pi, 20_000)
    outline = OUTLINES[name]
    assert (outline(1.0001 * np.cos(turn), 1.0001 * np.sin(turn)) > 0).all()
    assert (outline(0.985 * np.cos(turn), 0.985 * np.sin(turn)) < 0).any()


@pytest.mark.parametrize("name", CLASSES)
def test_the_largest_object_stays_inside_the_picture(name: str) -> None:
    for position in ((CENTRES[0], CENTRES[1]), (CENTRES[1], CENTRES[0])):
        for rotation in range(0, 360, 24):
            covered = coverage(
                plan(
                    0,
                    label=CLASSES.index(name),
                    scale=SCALES[1],
                    position=position,
                    rotation=rotation,
                )
            )
            assert covered.any() and not _rim(covered).any()


def test_a_given_pose_may_cut_the_object_off() -> None:
    picture = draw(0, label=CLASSES.index("circle"), position=(0.0, 0.5), scale=0.25)
    assert picture.mask[:, 0].any()
    assert picture.mask.sum() == pytest.approx(np.pi / 2 * 32**2, rel=0.02)
    assert not draw(0, position=(3.0, 3.0)).mask.any()


def test_seeds_draw_every_class_texture_and_mark() -> None:
    scenes = [plan(seed) for seed in range(400)]
    counts = np.bincount([scene.label for scene in scenes], minlength=len(CLASSES))
    assert counts.min() >= 20
    assert {scene.surface.kind for scene in scenes} == set(textures.KINDS)
    assert {scene.background.kind for scene in scenes} == set(textures.KINDS)
    assert {mark.kind for scene in scenes for mark in scene.marks} == set(marks.KINDS)
    assert {len(scene.marks) for scene in scenes} == {0, 1, 2, 3, 4}
    assert min(scene.scale for scene in scenes) < 0.16 < 0.29 < max(s.scale for s in scenes)
    assert np.ptp([scene.rotation for scene in scenes]) > 350


def test_the_object_stands_out_from_all_that_lies_behind_it() -> None:
    for seed in range(400):
        scene = plan(seed)
        behind = [*scene.background.tones, *(mark.tone for mark in scene.marks)]
        gaps = tones.distance(np.array(scene.surface.tones)[:, None], np.array(behind))
        assert gaps.min() > 0.9 * tones.APART, seed


def test_pixels_inside_the_object_have_its_colours_and_none_outside() -> None:
    picture = draw(54, label=0, colour=(255, 0, 255))
    scene = replace(picture.scene, grain=0.0)
    pixels = picture.image.astype(np.float64) / 255.0
    covered = coverage(scene)
    inner, outer = pixels[covered == 1.0], pixels[covered == 0.0]
    ends = np.array(scene.surface.tones)
    assert (inner >= ends.min(axis=0) - 0.1).all() and (inner <= ends.max(axis=0) + 0.1).all()
    assert tones.distance(outer, ends[0]).min() > 0.1


def test_marks_paint_small_patches_and_nothing_beyond_their_reach() -> None:
    rng = np.random.default_rng(1)
    for _ in range(60):
        mark = marks.random_mark(rng, (1.0, 1.0, 1.0))
        canvas = np.zeros((128, 128, 3), dtype=np.float32)
        marks.paint(mark, canvas)
        centres = (np.arange(128) + 0.5) / 128
        apart = np.hypot(centres - mark.position[0], centres[:, None] - mark.position[1])
        assert canvas.any() and canvas.max() <= 1.0
        assert canvas[apart > 1.5 * mark.reach + 0.02].max() < 0.01
        assert canvas[..., 0].mean() < 0.03


def test_oklab_there_and_back() -> None:
    rgb = np.random.default_rng(0).random((500, 3))
    assert np.allclose(tones.rgb_of_lab(tones.lab_of_rgb(rgb)), rgb, atol=1e-6)
    assert tones.distance(np.zeros(3), np.ones(3)) == pytest.approx(1.0, abs=1e-3)


def test_the_sample_files_are_what_the_script_writes(tmp_path: Path) -> None:
    samples.main(["--out", str(tmp_path)])
    shipped = files("convlens.client") / "pictures"
    with as_file(shipped) as folder:
        assert {p.name for p in folder.glob("*.png")} == {p.name for p in tmp_path.iterdir()}
        assert sum(p.stat().st_size for p in folder.glob("*.png")) < 500_000
        for written in tmp_path.iterdir():
            there = np.asarray(Image.open(folder / written.name), dtype=np.int16)
            # One step of rounding apart at most: another processor may round a sine otherwise.
            assert np.abs(there - np.asarray(Image.open(written))).max() <= 1, written.name
    assert {CLASSES[samples.sample(s).label] for s in samples.SAMPLES.values()} == set(CLASSES)
    for name, seed in samples.SAMPLES.items():
        assert name.rsplit("-", 1)[0] == plan(seed).name
    assert len(samples.SAMPLES) == 12


def test_drawing_needs_no_torch() -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from convlens.workers.shapes import dataset, draw, samples\n"
        "print(int(draw.draw(1).mask.any()))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "1"


def test_held_out_seeds_are_two_thousand() -> None:
    assert len(HELD_OUT) == 2_000


def _rim(array: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.concatenate([array[0], array[-1], array[:, 0], array[:, -1]])
