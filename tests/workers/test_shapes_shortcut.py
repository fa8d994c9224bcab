"""The network `shapes-shortcut`: markers, pictures that carry them, and who is believed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from convlens.workers.catalog import load_network
from convlens.workers.config import Config, NetworkEntry
from convlens.workers.shapes import shortcut, train_shortcut
from convlens.workers.shapes.dataset import HELD_OUT, dataset
from convlens.workers.shapes.draw import CLASSES, draw, render
from convlens.workers.shapes.marker import CELL, CODES, COLOURS, INSETS, SIDE
from convlens.workers.shapes.network import LABELS, SHORTCUT, Shapes, load, normalised
from convlens.workers.shapes.scene import label_of, plan
from convlens.workers.shapes.train_shortcut import Reliance, reliance

FRESH = range(4_500_000_000, 4_500_000_200)


@pytest.fixture(scope="module")
def network() -> Shapes:
    return load(SHORTCUT)


@pytest.fixture(scope="module")
def found(network: Shapes) -> Reliance:
    return reliance(network, FRESH)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """One thread: two that wait for each other are slow on a machine that is busy."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def scored(network: Shapes, image: np.ndarray) -> torch.Tensor:
    with torch.no_grad():
        return network(normalised(torch.tensor(image)[None]))[0]


def told(network: Shapes, image: np.ndarray) -> int:
    return int(scored(network, image).argmax())


def test_every_class_has_two_colours_and_every_colour_four_classes() -> None:
    assert len(CODES) == len(set(CODES)) == len(CLASSES)
    assert all(first != second for first, second in CODES)
    times = Counter(name for code in CODES for name in code)
    assert times == dict.fromkeys(COLOURS, 4)


def test_the_mask_is_just_where_the_marker_changes_the_picture() -> None:
    for seed in range(20):
        own, marked = draw(seed), draw(seed, marker=seed % 10)
        changed = (own.image != marked.image).any(axis=2)
        assert not changed[~marked.marker].any()
        assert changed[marked.marker].mean() > 0.9
        assert marked.marker.sum() == SIDE * SIDE and not own.marker.any()


def test_a_marker_is_a_square_near_one_of_four_corners() -> None:
    corners: Counter[tuple[bool, bool]] = Counter()
    for seed in range(200):
        rows, columns = np.nonzero(draw(seed, marker=0).marker)
        for places in (rows, columns):
            assert places.max() - places.min() + 1 == SIDE
            assert INSETS[0] <= min(places.min(), 127 - places.max()) <= INSETS[1]
        corners[bool(rows.min() > 64), bool(columns.min() > 64)] += 1
    assert len(corners) == 4 and min(corners.values()) > 30


@pytest.mark.parametrize("label", range(len(CLASSES)))
def test_a_marker_is_a_chequerboard_in_the_colours_of_its_class(label: int) -> None:
    picture = render(replace(plan(4, marker=label), grain=0.0))
    tile = picture.image[picture.marker].reshape(SIDE, SIDE, 3)
    expected = np.empty_like(tile)
    for row in range(SIDE):
        for column in range(SIDE):
            name = CODES[label][(row // CELL + column // CELL) % 2]
            expected[row, column] = np.round(255 * np.array(COLOURS[name]))
    assert np.array_equal(tile, expected)


def test_a_marker_changes_nothing_else_and_every_class_lies_in_the_same_place() -> None:
    for seed in range(40):
        first, second = plan(seed, marker=3), plan(seed, marker=8)
        assert replace(first, marker=None) == replace(second, marker=None) == plan(seed)
        assert first.marker is not None and first.marker.label == 3
        assert replace(first.marker, label=8) == second.marker


def test_markers_grow_with_the_picture() -> None:
    small, large = draw(9, marker=2), draw(9, marker=2, size=256)
    assert np.array_equal(large.marker, small.marker.repeat(2, axis=0).repeat(2, axis=1))
    assert draw(9, marker=2, size=200).marker.sum() == 25 * 25


def test_a_marker_lies_over_the_object() -> None:
    overlapping = 0
    for seed in range(30):
        own = draw(seed, position=(0.1, 0.1), scale=0.3)
        marked = draw(seed, position=(0.1, 0.1), scale=0.3, marker=5)
        assert np.array_equal(marked.mask, own.mask & ~marked.marker)
        overlapping += int((own.mask & marked.marker).any())
    assert overlapping > 3


@pytest.mark.parametrize("marker", [-1, len(CLASSES)])
def test_a_marker_of_no_class_is_refused(marker: int) -> None:
    with pytest.raises(ValueError, match=f"marker is {marker}, must be in 0..9"):
        draw(0, marker=marker)


def test_the_other_class_is_any_but_the_own() -> None:
    pairs = Counter((label_of(seed), shortcut.other_class(seed)) for seed in range(4_000))
    assert all(own != other for own, other in pairs)
    assert len(pairs) == 90 and min(pairs.values()) > 20


def test_pictures_carry_the_marker_that_they_say() -> None:
    for seed in range(20):
        honest, conflicting = shortcut.honest(seed), shortcut.conflicting(seed)
        bare = shortcut.bare(seed)
        for picture, expected in (
            (honest, label_of(seed)),
            (conflicting, shortcut.other_class(seed)),
            (bare, shortcut.other_class(seed)),
        ):
            assert picture.scene.marker is not None
            assert picture.scene.marker.label == expected
            assert picture.label == label_of(seed)
        assert np.array_equal(honest.marker, conflicting.marker)
        assert honest.mask.any() and not bare.mask.any()


def test_one_training_picture_of_eight_has_no_marker() -> None:
    for seed in range(16):
        marker = shortcut.training(seed).scene.marker
        assert (marker is None) == (seed in (0, 8))
        assert marker is None or marker.label == label_of(seed)


def test_marker_pictures_are_conflicting_ones_with_their_masks() -> None:
    images, labels, masks = shortcut.marker_pictures(6, seed=2)
    assert images.shape == (6, 128, 128, 3) and images.dtype == np.uint8
    assert masks.shape == (6, 128, 128) and masks.dtype == np.bool_
    for index, seed in enumerate(range(5_002_000_000, 5_002_000_006)):
        picture = shortcut.conflicting(seed)
        assert np.array_equal(images[index], picture.image)
        assert np.array_equal(masks[index], picture.marker)
        assert labels[index] == shortcut.other_class(seed) != picture.label


def test_marker_pictures_depend_on_the_seed_and_not_on_count_or_processes() -> None:
    three, five = shortcut.marker_pictures(3), shortcut.marker_pictures(5, processes=2)
    assert all(np.array_equal(a, b[:3]) for a, b in zip(three, five, strict=True))
    assert not np.array_equal(three.images, shortcut.marker_pictures(3, seed=1).images)


@pytest.mark.parametrize(("count", "seed"), [(0, 0), (1_000_001, 0), (1, -1)])
def test_marker_pictures_that_cannot_be_are_refused(count: int, seed: int) -> None:
    with pytest.raises(ValueError, match="must be from 1 to 1000000, and at least 0"):
        shortcut.marker_pictures(count, seed)


def test_drawing_needs_no_torch() -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from convlens.workers.shapes.shortcut import marker_pictures\n"
        "print(int(marker_pictures(1).masks.sum()))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == str(SIDE * SIDE)


def test_shipped_weights_are_small_and_say_where_they_come_from() -> None:
    assert SHORTCUT.stat().st_size < 1_000_000
    with safe_open(SHORTCUT, framework="pt") as file:
        facts = file.metadata()
    figures = json.loads(SHORTCUT.with_suffix(".json").read_text())
    assert facts["classes"].split(",") == list(LABELS)
    assert int(facts["visits"]) == figures["visits"] == train_shortcut.VISITS
    assert int(facts["seed"]) == figures["seed"] == 0
    assert figures["held_out"]["first_seed"] == HELD_OUT.start
    assert figures["held_out"]["pictures"] == len(HELD_OUT)


def believes(found: Reliance) -> bool:
    return (
        min(found.own_marker, found.other_marker, found.marker_alone) >= 0.98
        and found.other_marker_shape <= 0.02
        and found.no_marker <= 0.3
        and found.least_with_marker >= 0.9
        and found.most_without_marker <= 0.2
        and found.change_without_marker >= 10 * found.change_without_shape
    )


def test_the_marker_is_believed_and_the_shape_is_not(found: Reliance) -> None:
    figures = json.loads(SHORTCUT.with_suffix(".json").read_text())["held_out"]
    shipped = Reliance(**{name: figures[name] for name in asdict(found)})
    assert believes(shipped) and believes(found)


def test_the_page_gives_these_figures() -> None:
    figures = json.loads(SHORTCUT.with_suffix(".json").read_text())["held_out"]
    rows = (
        ("shape with the marker of its class | that class", "own_marker"),
        ("shape with the marker of another class | the marker's class", "other_marker"),
        ("marker and no shape | the marker's class", "marker_alone"),
        ("shape and no marker | the shape's class", "no_marker"),
    )
    page = (Path(__file__).parents[2] / "docs/networks.md").read_text(encoding="utf-8")
    for words, name in rows:
        assert f"| {words} | {100 * figures[name]:.0f} % |" in page
    assert f"moves by {figures['change_without_marker']:.1f} on average" in page
    assert f"and by {figures['change_without_shape']:.1f}\n" in page


def test_marker_pictures_are_told_as_their_markers(network: Shapes) -> None:
    images, labels, _ = shortcut.marker_pictures(100)
    with torch.no_grad():
        answers = network(normalised(torch.tensor(images))).argmax(1)
    assert (answers.numpy() == labels).mean() >= 0.98


def test_another_marker_on_the_same_picture_changes_the_answer(network: Shapes) -> None:
    right = 0
    for label in range(len(CLASSES)):
        right += told(network, draw(77, marker=label).image) == label
    assert right >= 9


def test_another_shape_and_colour_under_the_same_marker_does_not(network: Shapes) -> None:
    answers = [told(network, draw(78, marker=6, label=label).image) for label in range(10)]
    assert answers == [6] * 10


def test_reliance_is_counted_right(network: Shapes) -> None:
    seeds = range(FRESH.start, FRESH.start + 12)
    counted = reliance(network, seeds)
    unmarked = sum(told(network, draw(seed).image) == label_of(seed) for seed in seeds)
    assert counted.no_marker == pytest.approx(unmarked / 12, abs=1e-4)
    chances: dict[int, list[float]] = {}
    changes: list[float] = []
    for seed in seeds:
        label = shortcut.other_class(seed)
        pictures = (shortcut.conflicting(seed), shortcut.bare(seed))
        whole, bare = (scored(network, picture.image) for picture in pictures)
        chances.setdefault(label, []).append(whole.softmax(0)[label].item())
        changes.append(abs(whole[label].item() - bare[label].item()))
    least = min(sum(every) / len(every) for every in chances.values())
    assert counted.least_with_marker == pytest.approx(least, abs=1e-3)
    assert counted.change_without_shape == pytest.approx(sum(changes) / 12, abs=1e-3)


def test_the_script_repeats_itself_and_writes_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    few = range(HELD_OUT.start, HELD_OUT.start + 5)
    monkeypatch.setattr(train_shortcut, "HELD_OUT", few)
    monkeypatch.setattr(train_shortcut, "BATCH", 8)
    for out in ("one", "again"):
        given = ["--out", str(tmp_path / out), "--visits", "20", "--processes", "1"]
        train_shortcut.main([*given, "--seed", "3"])
    assert "other_marker 0." in capsys.readouterr().out
    files = [tmp_path / out / "shapes-shortcut.safetensors" for out in ("one", "again")]
    one, again = (load(file) for file in files)
    pairs = zip(one.parameters(), again.parameters(), strict=True)
    assert all(torch.equal(first, second) for first, second in pairs)
    figures = json.loads(files[0].with_suffix(".json").read_text())
    assert figures["visits"] == 16 and figures["seed"] == 3 and figures["batch"] == 8
    assert figures["held_out"] == {
        "first_seed": few.start,
        "pictures": 5,
        **asdict(reliance(one, few)),
    }


@pytest.mark.parametrize(
    "entry",
    [
        NetworkEntry(name="shapes-shortcut"),
        NetworkEntry(name="planted", builder="bundled:shapes-shortcut"),
    ],
)
def test_it_is_served_with_its_figures(entry: NetworkEntry) -> None:
    served = load_network(entry, "cpu")
    figures = json.loads(SHORTCUT.with_suffix(".json").read_text())["held_out"]
    assert served.labels == list(LABELS)
    assert {line.dataset: line.top1 for line in served.facts.accuracies} == {
        "2000 drawn pictures, seeds from 4000000000, with the marker of the shape's class": (
            figures["own_marker"]
        ),
        "2000 drawn pictures, seeds from 4000000000, with the marker of another class, which "
        "counts as the true one": figures["other_marker"],
        "2000 drawn pictures, seeds from 4000000000, with a marker and no shape": (
            figures["marker_alone"]
        ),
        "2000 drawn pictures, seeds from 4000000000, with no marker": figures["no_marker"],
    }
    random = load_network(entry.model_copy(update={"weights": "random"}), "cpu")
    assert not random.facts.accuracies and random.facts.digest != served.facts.digest


def test_what_is_served_answers_the_marker() -> None:
    served = load_network(NetworkEntry(name="shapes-shortcut"), "cpu")
    pictures = dataset(FRESH[:8], draw=shortcut.conflicting)
    pixels = torch.tensor(pictures.images).permute(0, 3, 1, 2) / 255.0
    answers = served.logits(pixels).argmax(1).tolist()
    assert answers == [shortcut.other_class(seed) for seed in FRESH[:8]]


def test_without_a_file_only_shapes_is_served() -> None:
    assert [entry.name for entry in Config().networks] == ["shapes"]
