"""Accuracy reports against plain NumPy on logits of plain torch, and how they end badly."""

import csv
import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from torchvision.transforms import functional

from convlens.client import Client, InvalidRequest, studies
from convlens.client._picture_files import found
from convlens.client.cli._program import program
from convlens.client.studies._shares import mcnemar
from convlens.client.studies._study import Facts
from convlens.client.studies._told import Told
from convlens.workers.shapes.draw import CLASSES, draw
from convlens.workers.shapes.network import ROBUST, WEIGHTS, load, normalised
from tests.conftest import running_server

# It is typed for tensors alone, and takes Pillow's images.
TF: Any = functional

COUNT = 48
NETWORKS = """
networks:
  - name: shapes
  - name: shapes-robust
  - {name: other, builder: "bundled:shapes", labels: [a, b, c, d, e, f, g, h, i, j]}
"""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where several networks are served."""
    file = tmp_path_factory.mktemp("networks") / "networks.yaml"
    file.write_text(NETWORKS)
    with running_server(networks=file) as server:
        yield server.address


@pytest.fixture(scope="module")
def client(address: str) -> Iterator[Client]:
    with Client(address) as opened:
        yield opened


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shapes of all sizes, none of them square pictures, and what is known of each."""
    folder = tmp_path_factory.mktemp("accuracy")
    rows = []
    for number in range(COUNT):
        radius = 0.05 + 0.2 * number / COUNT
        made = draw(number, size=150, scale=radius)
        file = folder / CLASSES[made.label] / f"{number:03}.png"
        file.parent.mkdir(exist_ok=True)
        pixels = made.image[:133] if number % 2 else made.image[:, 8:]
        Image.fromarray(pixels).save(file)
        rows.append((file.relative_to(folder), made.scene.surface.kind, f"{radius:.4f}"))
    with (folder / "factors.csv").open("w", newline="") as lines:
        csv.writer(lines).writerows([("file", "texture", "radius"), *rows])
    return folder


def resized(path: Path, scale: float) -> Image.Image:
    return TF.resize(Image.open(path), round(128 * scale), antialias=True)


def softmax_of(weights: Path, crops: list[Image.Image]) -> np.ndarray:
    """Probabilities [crops, classes] by torch alone."""
    pixels = torch.tensor(np.stack([np.asarray(crop) for crop in crops]))
    with torch.no_grad():
        return load(weights)(normalised(pixels)).double().softmax(1).numpy()


@pytest.fixture(scope="module")
def plain(small: Path) -> tuple[list[Path], np.ndarray, np.ndarray]:
    """The pictures, their probabilities by the middle crop, and their classes."""
    paths = found(small)
    middle = [TF.center_crop(resized(path, 1), [128, 128]) for path in paths]
    truth = np.array([CLASSES.index(path.parent.name) for path in paths])
    return paths, softmax_of(WEIGHTS, middle), truth


@pytest.fixture(scope="module")
def report(client: Client, small: Path) -> studies.Accuracy:
    return studies.accuracy(client, small, factors=small / "factors.csv")


def wilson(right: int, count: int) -> tuple[float, float]:
    z, p = 1.959963984540054, right / count
    middle = (p + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(p * (1 - p) / count + z * z / (4 * count * count))
    return middle - half, middle + half


def test_what_is_told_is_what_torch_tells(report, plain) -> None:
    paths, probabilities, truth = plain
    assert list(report.pictures) == paths and report.truth.tolist() == truth.tolist()
    told = report.last
    assert told.predicted.tolist() == probabilities.argmax(1).tolist()
    np.testing.assert_allclose(told.confidence, probabilities.max(1), atol=1e-5)
    for number, true in enumerate(truth):
        better = sum(other > probabilities[number, true] for other in probabilities[number])
        assert told.rank[number] == better
        assert told.truth[number] == pytest.approx(probabilities[number, true], abs=1e-5)


def test_shares_and_their_intervals(report, plain) -> None:
    _, probabilities, truth = plain
    order = (-probabilities).argsort(1)
    for count in (1, 5):
        right = sum(true in best[:count] for best, true in zip(order, truth, strict=True))
        [share] = report.top(count).values()
        # Neither all nor none, or the test would see little.
        assert 0 < right < COUNT and (share.right, share.count) == (right, COUNT)
        assert (share.low, share.high) == pytest.approx(wilson(right, COUNT))
    for each in report.classes:
        mine = truth == CLASSES.index(each.name)
        right = (order[mine, 0] == truth[mine]).sum()
        assert (each.right, each.count) == (right, mine.sum())
    shares = [each.share for each in report.classes]
    assert shares == sorted(shares) and len(shares) == len(set(truth))


def test_confusions_are_counted(report, plain) -> None:
    _, probabilities, truth = plain
    counts: dict[tuple[str, str], int] = {}
    for row, true in zip(probabilities, truth, strict=True):
        if row.argmax() != true:
            pair = (CLASSES[true], CLASSES[row.argmax()])
            counts[pair] = counts.get(pair, 0) + 1
    assert {(true, told): times for true, told, times in report.confusions} == counts
    times = [each for _, _, each in report.confusions]
    assert times == sorted(times, reverse=True)


def test_calibration_is_that_of_a_loop_over_bins(report, plain) -> None:
    _, probabilities, truth = plain
    sure, right = probabilities.max(1), probabilities.argmax(1) == truth
    error, bins = 0.0, []
    for number in range(15):
        inside = (sure > number / 15) & (sure <= (number + 1) / 15)
        if inside.any():
            error += inside.mean() * abs(right[inside].mean() - sure[inside].mean())
            bins.append((inside.sum(), sure[inside].mean(), right[inside].mean()))
    assert report.calibration_error == pytest.approx(error, abs=1e-5)
    got = [(each.count, each.confidence, each.accuracy) for each in report.bins]
    np.testing.assert_allclose(got, bins, atol=1e-5)


def test_the_surest_mistakes_come_first(report, plain) -> None:
    paths, probabilities, truth = plain
    wrong = [i for i in range(COUNT) if probabilities[i].argmax() != truth[i]]
    wrong.sort(key=lambda i: -probabilities[i].max())
    assert [each.picture for each in report.mistakes] == [paths[i] for i in wrong]
    first = report.mistakes[0]
    assert (first.true, first.told) == (
        CLASSES[truth[wrong[0]]],
        CLASSES[probabilities[wrong[0]].argmax()],
    )


def test_accuracy_by_what_is_known_of_pictures(report, small: Path, plain) -> None:
    paths, probabilities, truth = plain
    right = dict(zip(paths, probabilities.argmax(1) == truth, strict=True))
    with (small / "factors.csv").open() as lines:
        known = {small / row["file"]: row for row in csv.DictReader(lines)}
    texture, radius = report.factors
    for share in report.by(texture):
        mine = [right[path] for path in paths if known[path]["texture"] == share.name]
        assert (share.right, share.count) == (sum(mine), len(mine))
    assert sum(share.count for share in report.by(texture)) == COUNT
    quarters = np.array_split(sorted(paths, key=lambda path: float(known[path]["radius"])), 4)
    got = [(share.right, share.count) for share in report.by(radius)]
    assert got == [(sum(right[path] for path in each), 12) for each in quarters]
    assert report.by(radius)[0].name == "0.05 to 0.0958"
    shares = sorted(report.by(radius), key=lambda each: each.share)
    [words] = [words for words in report.findings if words.startswith("Radius matters: ")]
    assert f"{shares[0].name} ({100 * shares[0].share:.0f} % of 12) the hardest" in words


def test_crops_and_scales_are_those_of_torchvision(
    client: Client, small: Path, plain, tmp_path: Path
) -> None:
    # Each picture is looked at 22 times.
    few = slice(None, None, 4)
    paths, middle, truth = (each[few] for each in plain)
    for path in paths:
        file = tmp_path / path.relative_to(small)
        file.parent.mkdir(exist_ok=True)
        shutil.copy(path, file)
    shown = studies.accuracy(client, tmp_path, crops=10, scales=(1.25, 1))
    ten = {
        scale: np.stack([softmax_of(WEIGHTS, list(TF.ten_crop(resized(path, scale), 128))).mean(0)
                         for path in paths])
        for scale in (1, 1.25)
    }  # fmt: skip
    larger = [TF.center_crop(resized(path, 1.25), [128, 128]) for path in paths]
    expected = [
        ("shapes@1, scale 1", middle),
        ("shapes@1, scale 1, 10 crops", ten[1]),
        ("shapes@1, scale 1.25", softmax_of(WEIGHTS, larger)),
        ("shapes@1, scale 1.25, 10 crops", ten[1.25]),
        ("shapes@1, 2 scales, 10 crops", (ten[1] + ten[1.25]) / 2),
    ]
    assert list(shown.told) == [title for title, _ in expected]
    for title, probabilities in expected:
        told = shown.told[title]
        np.testing.assert_allclose(told.confidence, probabilities.max(1), atol=1e-5)
        rows = np.arange(len(paths))
        np.testing.assert_allclose(told.truth, probabilities[rows, truth], atol=1e-5)
    assert any(" against " in words for words in shown.findings)


def test_networks_answer_together(client: Client, small: Path, plain) -> None:
    paths, one, _ = plain
    other = softmax_of(ROBUST, [TF.center_crop(resized(path, 1), [128, 128]) for path in paths])
    shown = studies.accuracy(client, small, networks=("shapes", "shapes-robust"))
    assert list(shown.told) == ["shapes@1", "shapes-robust@1", "2 networks together"]
    expected = (one, other, (one + other) / 2)
    for told, probabilities in zip(shown.told.values(), expected, strict=True):
        assert told.predicted.tolist() == probabilities.argmax(1).tolist()
        np.testing.assert_allclose(told.confidence, probabilities.max(1), atol=1e-5)
    assert shown.facts.network == "shapes@1, shapes-robust@1"


def test_an_interrupted_run_goes_on_where_it_was(client, small: Path, tmp_path: Path, report):
    def interrupt(what: str, done: int, total: int) -> None:
        if done == 30 and "robust" in what:
            raise KeyboardInterrupt

    state = tmp_path / "state"
    given: dict[str, Any] = {"networks": ("shapes", "shapes-robust"), "state": state}
    with pytest.raises(KeyboardInterrupt):
        studies.accuracy(client, small, progress=interrupt, **given)
    counts: dict[str, int] = {}
    again = studies.accuracy(
        client, small, progress=lambda what, done, _: counts.setdefault(what, done), **given
    )
    assert counts == {"asking shapes@1": COUNT, "asking shapes-robust@1": 30}
    np.testing.assert_array_equal(again.told["shapes@1"].rank, report.last.rank)
    with pytest.raises(InvalidRequest, match="is of a run with"):
        studies.accuracy(client, small, crops=10, **given)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"networks": ()}, "No network is named"),
        ({"networks": ("shapes", "")}, "named twice"),
        ({"networks": ("shapes", "other")}, "other@1 knows other classes than shapes@1"),
        ({"networks": ("other",)}, "other has no class 'arrow'; it has a, b, c"),
        ({"crops": 5}, "crops is 5; it must be 1 or 10"),
        ({"scales": ()}, "No scale is given"),
        ({"scales": (1.2, 1.2)}, "given twice"),
        ({"scales": (0.9,)}, "0.9 is too small for shapes@1, which takes 128 x 128 .* least is 1"),
        ({"scales": (float("nan"),)}, "nan is too small"),
    ],
)
def test_what_cannot_be_asked_is_refused(client, small: Path, given, words) -> None:
    with pytest.raises(InvalidRequest, match=words):
        studies.accuracy(client, small, **given)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is no CSV"),
        ("file\nring/001.png\n", "at least one more, such as texture"),
        ("picture,texture\n1,2\n", "must have the column file"),
        ("file,texture\nelsewhere.png,noise\n", "has none of the pictures"),
        ("file,texture\n{0},noise\n{0},dots\n", "twice; name it once"),
        ('file,texture\n"a,b\n', "is no CSV"),
    ],
)
def test_factors_that_are_none_are_refused(client, small, tmp_path, text, words) -> None:
    file = tmp_path / "factors.csv"
    file.write_text(text.format(found(small)[0].relative_to(small)))
    with pytest.raises(InvalidRequest, match=words):
        studies.accuracy(client, small, factors=file)
    with pytest.raises(InvalidRequest, match="cannot be read: No such file"):
        studies.accuracy(client, small, factors=tmp_path / "none.csv")


def test_pictures_of_which_nothing_is_known_are_left_out(client, small: Path, tmp_path: Path):
    [one, two, three, *_] = (path.relative_to(small) for path in found(small))
    file, notes = tmp_path / "factors.csv", []
    file.write_text(f"file,label,kind,none\n{one},x,N/A,\n{two},x,,\n{three},x, N/A ,\n")
    shown = studies.accuracy(
        client, small, factors=file, progress=lambda what, _, total: total or notes.append(what)
    )
    kind, none = shown.factors
    assert [(each.name, each.count) for each in shown.by(kind)] == [("N/A", 2)]
    assert shown.by(none) == []
    assert "All pictures with a kind have the same, N/A." in shown.findings
    assert notes[-1].endswith(f"says nothing of {COUNT - 2} of the pictures.")
    assert "Accuracy by none" not in shown.tables()


def test_one_class_only_and_no_mistake(client, tmp_path: Path) -> None:
    file = tmp_path / "star" / "0.png"
    file.parent.mkdir()
    Image.fromarray(draw(0, label=CLASSES.index("star"), scale=0.28).image).save(file)
    shown = studies.accuracy(client, tmp_path)
    assert shown.findings[0].startswith("100.0 % of 1 picture is told right")
    words = "All pictures are of one class, star. 9 of the network's 10 classes have no picture."
    assert shown.findings[1] == words
    assert list(shown.figures()) == ["Calibration"] and not shown.mistakes
    assert len(shown.tables()["Mistakes"]) == len(shown.tables()["Confusions"]) == 0


@pytest.mark.parametrize("crops", [[], ["--crops", "10"]])
def test_the_command_skips_what_cannot_be_read(address, small: Path, tmp_path: Path, crops) -> None:
    folder, out = tmp_path / "pictures", tmp_path / "out"
    shutil.copytree(small, folder)
    for path in found(folder)[:: 2 if crops else COUNT]:
        path.unlink()
    count = len(found(folder))
    (folder / "ring" / "broken.png").write_bytes(b"no picture")
    given = ["accuracy", folder, "--factors", folder / "factors.csv", *crops, "--out", out]
    result = invoke(address, *given)
    assert result.exit_code == 1 and "broken.png: The image cannot be read" in result.stderr
    document = json.loads((out / "study.json").read_text())
    assert document["pictures"] == count and len(document["skipped"]) == 1
    names = {file.name for file in out.iterdir()}
    for name in ("accuracy-by-class", "accuracy-by-texture", "confusion", "worst-mistakes"):
        assert f"{name}.png" in names
    for name in ("accuracy", "classes", "confusions", "calibration", "mistakes"):
        assert f"{name}.csv" in names
    assert ("accuracy-by-what-is-asked.png" in names) == bool(crops)
    assert "state" not in names and "Accuracy by radius" in (out / "page.html").read_text()


def test_a_class_that_no_network_knows_is_refused(address, small: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    shutil.copytree(small / "ring", folder / "cat")
    result = invoke(address, "accuracy", folder, "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert "shapes has no class 'cat'; it has circle" in result.stderr
    assert not (tmp_path / "out").exists()


def invoke(address: str, *given: object):
    arguments = ["study", *map(str, given)]
    return CliRunner().invoke(
        program, arguments, env={"CONVLENS_SERVER": address}, catch_exceptions=False
    )


def test_many_classes_are_shown_by_their_ends(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    truth = np.repeat(np.arange(40), 5)
    probabilities = rng.dirichlet(np.full(40, 0.1), len(truth))
    probabilities[np.arange(0, len(truth), 2), truth[::2]] += 2
    told = Told.of(probabilities / probabilities.sum(1, keepdims=True), truth)
    picture = tmp_path / "gone.png"
    shown = studies.Accuracy(
        Facts("x@1", "", len(truth), 1.0),
        [f"a class with a long name, {number}" for number in range(40)],
        [picture] * len(truth),
        truth,
        {"x@1": told},
    )
    drawn = shown.figures()
    # 15 of each end and what stands between; 20 pairs.
    assert drawn["Accuracy by class"].height > drawn["Confusion"].height > 600
    assert drawn["Worst mistakes"].width == 6 * 164 + 14


def test_mcnemar_is_the_sum_of_the_binomials() -> None:
    before = np.array([1] * 10 + [0] * 9 + [1] * 2, bool)
    after = np.array([1] * 10 + [1] * 9 + [0] * 2, bool)
    chance = 2 * sum(math.comb(11, k) for k in range(3)) / 2**11
    assert mcnemar(before, after) == (9, 2, pytest.approx(chance))
    assert mcnemar(before, before) == (0, 0, 1.0)
    told = {
        title: Told(right.astype(int), np.full(21, 0.9), np.full(21, 0.5), 1 - right.astype(int))
        for title, right in (("plain", before), ("both", after), ("same", after))
    }
    facts, gone = Facts("x@1", "", 21, 1.0), [Path("gone.png")] * 21
    shown = studies.Accuracy(facts, ["p", "q"], gone, np.ones(21, int), told)
    words = (
        "same: 90.5 %, against 57.1 % of plain (+33.3 points; 9 mistakes mended and 2 made, which "
        "chance may explain (McNemar's exact test, p = 0.065))."
    )
    assert words in shown.findings
