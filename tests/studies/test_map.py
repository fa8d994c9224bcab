"""The map of a folder against plain loops, and how it ends in bad cases."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from convlens.client import Client, InvalidRequest, NotFound, studies
from convlens.client._picture_files import found
from convlens.client.studies._thumbnails import side_for, thumbnails
from convlens.client.studies._walk import unheard

LAYER = "features.12"


@pytest.fixture(scope="module")
def made(client: Client, drawn: Path) -> studies.CodeMap:
    return studies.code_map(client, drawn, layer=LAYER, way="pca")


def test_positions_are_those_of_the_codes(
    made: studies.CodeMap, client: Client, drawn: Path
) -> None:
    paths = found(drawn)
    codes = [client.extract_features(path, LAYER, pooling="avg")[LAYER] for path in paths]
    centred = np.asarray(codes, np.float64) - np.mean(codes, axis=0)
    left, sizes, _ = np.linalg.svd(centred, full_matrices=False)
    expected = left[:, :2] * sizes[:2]
    signs = np.sign((made.positions * expected).sum(axis=0))
    np.testing.assert_allclose(made.positions, expected * signs, atol=1e-3 * sizes[0])
    assert list(made.pictures) == paths
    assert list(made.labels or []) == [path.parent.name for path in paths]


def test_predictions_are_those_of_classify(
    made: studies.CodeMap, client: Client, drawn: Path
) -> None:
    tops = [client.classify(path).top for path in found(drawn)]
    assert list(made.predictions) == [top.label for top in tops]
    np.testing.assert_allclose(
        made.probabilities, [top.probability or 0 for top in tops], atol=1e-5
    )
    right = [top.label == path.parent.name for top, path in zip(tops, found(drawn), strict=True)]
    assert made.right is not None and made.right.tolist() == right


def test_what_is_kept_is_that_of_a_loop(made: studies.CodeMap, client: Client, drawn: Path) -> None:
    codes = [client.extract_features(path, LAYER, pooling="avg")[LAYER] for path in found(drawn)]
    labels, count = list(made.labels or []), made.kept.count

    def sharing(points) -> float:
        total = 0
        for i, point in enumerate(points):
            away = [(np.linalg.norm(point - other), j) for j, other in enumerate(points) if i != j]
            total += sum(labels[i] == labels[j] for _, j in sorted(away)[:count])
        return total / len(points)

    assert count == 10
    assert made.kept.on_map == pytest.approx(sharing(made.positions))
    assert made.kept.in_codes == pytest.approx(sharing(codes))
    pairs = [labels[i] == labels[j] for i in range(40) for j in range(40) if i != j]
    assert made.kept.by_chance == pytest.approx(count * np.mean(pairs))


def test_trustworthiness_is_that_of_its_definition(
    made: studies.CodeMap, client: Client, drawn: Path
) -> None:
    codes = np.asarray(
        [client.extract_features(path, LAYER, pooling="avg")[LAYER] for path in found(drawn)]
    )
    n, k, penalty = 40, 10, 0.0
    for i in range(n):
        near = np.argsort(np.linalg.norm(made.positions - made.positions[i], axis=1), kind="stable")
        order = np.argsort(np.linalg.norm(codes - codes[i], axis=1), kind="stable").tolist()
        for j in [each for each in near if each != i][:k]:
            penalty += max(0, order.index(j) - k)
    expected = 1 - 2 * penalty / (n * k * (2 * n - 3 * k - 1))
    assert made.kept.trustworthiness == pytest.approx(expected, abs=1e-3)


def test_the_grid_shows_every_picture(made: studies.CodeMap) -> None:
    grid = np.asarray(made.figures()["All pictures in a grid"])
    side = (grid.shape[1] - 2) // 7 - 2
    for number, (row, column) in enumerate(made.cells.tolist()):
        top, left = 2 + row * (side + 2), 2 + column * (side + 2)
        shown = grid[top : top + side, left : left + side]
        np.testing.assert_array_equal(shown, made.thumbnails.of(number, side))


def test_thumbnails_are_upright_and_keep_their_proportions(tmp_path: Path) -> None:
    wide = np.zeros((20, 40, 3), np.uint8)
    wide[:, :20] = (255, 0, 0)
    image = Image.fromarray(wide)
    exif = Image.Exif()
    exif[0x0112] = (
        6  # It was taken with the camera turned: a quarter to the right makes it upright.
    )
    image.save(tmp_path / "turned.png", exif=exif)
    clear = Image.new("RGBA", (10, 10), (0, 0, 0, 0))
    clear.save(tmp_path / "clear.png")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    names = ["turned.png", "clear.png", "broken.png"]
    small = thumbnails([tmp_path / name for name in names], 32, unheard)
    assert small.sizes.tolist() == [[32, 16], [32, 32], [32, 32]]
    assert small.of(0)[0, 8].tolist() == [255, 0, 0] and small.of(0)[31, 8].tolist() == [0, 0, 0]
    assert (small.of(1) == 255).all() and (small.of(2) == 128).all()


@pytest.mark.parametrize("count", [1, 1000, 5000, 20000, 10**6])
def test_all_thumbnails_have_room_in_one_picture(count: int) -> None:
    side = side_for(count)
    assert side % 8 == 0 and 24 <= side <= 128
    assert side == 24 or side * side * count <= 20_000_000


def test_a_file_of_labels_names_classes(client: Client, drawn: Path, tmp_path: Path) -> None:
    lines = [f"{path.relative_to(drawn)},{path.parent.name[0]}*" for path in found(drawn)]
    file = tmp_path / "labels.csv"
    file.write_text("\n".join(["file,label", *lines]))
    made = studies.code_map(client, drawn, way="pca", labels=file)
    assert set(made.labels or []) == {f"{path.parent.name[0]}*" for path in found(drawn)}
    assert made.right is None
    assert "not the network's classes" in made.findings[-1]
    file.write_text("\n".join(["file,label", *lines[1:]]))
    with pytest.raises(InvalidRequest, match=r"has no label in .*labels\.csv"):
        studies.code_map(client, drawn, way="pca", labels=file)
    with pytest.raises(InvalidRequest, match="name that folder alone"):
        studies.code_map(client, [drawn / "star", drawn / "ring"], way="pca", labels=file)


def test_pictures_without_labels_have_a_map(client: Client, drawn: Path) -> None:
    made = studies.code_map(client, [drawn / "star", drawn / "ring"], way="pca")
    assert made.labels is None and made.right is None and made.kept.of == "prediction"
    assert {"label", "grid row"} & set(made.tables()["Positions"]) == {"grid row"}


def test_one_class_only_is_said(client: Client, drawn: Path, tmp_path: Path) -> None:
    largest = max(
        filter(Path.is_dir, drawn.iterdir()), key=lambda folder: len(list(folder.iterdir()))
    )
    shutil.copytree(largest, tmp_path / largest.name)
    made = studies.code_map(client, tmp_path, way="pca")
    assert made.findings[0] == f"All pictures have one label: {largest.name}."


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"layer": "features.99"}, NotFound, "features.99"),
        ({"way": "som"}, InvalidRequest, "must be one of t-sne, pca, umap"),
        ({"pooling": "median"}, InvalidRequest, "must be one of none, avg, max, flatten"),
    ],
)
def test_what_cannot_be_mapped_is_refused(client, drawn, given, error, words) -> None:
    with pytest.raises(error, match=words):
        studies.code_map(client, drawn, **given)


def test_an_interrupted_map_goes_on_where_it_was(
    client: Client, drawn: Path, tmp_path: Path, made: studies.CodeMap
) -> None:
    def interrupt(what: str, done: int, total: int) -> None:
        if what == "looking" and done == 25:
            raise KeyboardInterrupt

    state, counts = tmp_path / "state", list[int]()
    given: dict[str, Any] = {"layer": LAYER, "way": "pca", "state": state}
    with pytest.raises(KeyboardInterrupt):
        studies.code_map(client, drawn, **given, progress=interrupt)
    again = studies.code_map(
        client,
        drawn,
        **given,
        progress=lambda what, done, total: counts.append(done) if what == "looking" else None,
    )
    assert counts[0] == 25
    np.testing.assert_allclose(again.positions, made.positions, atol=1e-4)


def test_the_command_skips_what_cannot_be_read(run, drawn: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / "pictures", tmp_path / "out"
    shutil.copytree(drawn, folder)
    (folder / "star" / "broken.png").write_bytes(b"no picture")
    result = run("map", folder, "--out", out)
    assert result.exit_code == 1
    assert "broken.png: The image cannot be read" in result.stderr
    document = json.loads((out / "study.json").read_text())
    assert [Path(each["picture"]).name for each in document["skipped"]] == ["broken.png"]
    assert document["pages"] == {"Interactive map": "interactive-map.html"}
    assert 'href="interactive-map.html"' in (out / "page.html").read_text()
    with (out / "positions.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert len(rows) == 40
    assert [row["label"] for row in rows] == [Path(row["picture"]).parent.name for row in rows]
    assert {file.name for file in out.iterdir()} == {
        *("page.html", "study.json", "positions.csv", "neighbours.csv", "interactive-map.html"),
        *("all-pictures-in-a-grid.png", "the-codes-of-cnn-code-by-t-sne.png"),
    }


@pytest.mark.parametrize(
    ("content", "words"),
    [("empty", "No pictures in"), ("broken", "No picture has an answer"), ("two", "at least 3")],
)
def test_too_few_pictures_are_refused(run, drawn, tmp_path, content: str, words: str) -> None:
    folder, out = tmp_path / "pictures", tmp_path / "out"
    folder.mkdir()
    if content == "broken":
        for number in range(3):
            (folder / f"{number}.png").write_bytes(b"no picture")
    if content == "two":
        for number, path in enumerate(found(drawn)[:2]):
            shutil.copy(path, folder / f"{number}.png")
    result = run("map", folder, "--out", out)
    assert result.exit_code == 1 and words in result.stderr
    assert not out.exists()
    assert "Traceback" not in result.output
