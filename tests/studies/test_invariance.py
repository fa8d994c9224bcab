"""Invariance against NumPy on codes asked for one by one, and pictures moved by hand."""

import json
import shutil
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from convlens.client import Client, InvalidImage, InvalidRequest, NotFound, studies
from convlens.client._picture_files import found
from convlens.client.studies._input_pixels import input_pixels
from convlens.client.studies._transforms import Change, changed

LAYERS = ["features.2", "classifier.4"]
FEW: Any = {"translations": [-16, 0, 8], "scales": [1, 1.5], "rotations": [0, 90, 360]}


@pytest.fixture(scope="module")
def four(drawn: Path) -> list[Path]:
    return found(drawn)[::10]


@pytest.fixture(scope="module")
def study(client: Client, four: list[Path]) -> studies.Invariance:
    return studies.invariance(client, four, LAYERS, **FEW)


def moved_down(pixels: np.ndarray, rows: int) -> np.ndarray:
    """By slices; the shapes' mean colour is 0.5, which is 128 of 255."""
    made = np.full_like(pixels, 128)
    if rows >= 0:
        made[rows:] = pixels[: len(pixels) - rows]
    else:
        made[:rows] = pixels[-rows:]
    return made


def test_distances_are_those_of_numpy(client: Client, four: list[Path], study) -> None:
    plain = [np.asarray(Image.open(path)) for path in four]

    def code(pixels: np.ndarray, layer: str) -> np.ndarray:
        return client.extract_features(pixels, layer, geometry="as_is")[layer].astype(float).ravel()

    for number, layer in enumerate(LAYERS):
        codes = [code(pixels, layer) for pixels in plain]
        pairs = [np.sqrt(((a - b) ** 2).sum()) for a, b in combinations(codes, 2)]
        unit = sum(pairs) / len(pairs)
        assert study.others[number] == pytest.approx(unit, rel=1e-5)
        for picture, pixels in enumerate(plain):
            made = {
                "translation": [moved_down(pixels, -16), pixels, moved_down(pixels, 8)],
                "rotation": [pixels, np.rot90(pixels), pixels],
            }
            for kind, versions in made.items():
                expected = [
                    np.linalg.norm(code(np.ascontiguousarray(one), layer) - codes[picture]) / unit
                    for one in versions
                ]
                got = study.curves[kind].distances[number, picture]
                np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-6)


def test_probabilities_are_those_of_the_service(client: Client, four: list[Path], study) -> None:
    for number, path in enumerate(four):
        pixels = np.asarray(Image.open(path))
        top = client.classify(pixels).top
        assert study.classes[number] == top.label
        versions = [np.ascontiguousarray(np.rot90(pixels)), moved_down(pixels, 8)]
        scores = [client.classify(one, top_k=10).classes for one in versions]
        told: Any = [next(s.probability for s in each if s.index == top.index) for each in scores]
        got = [study.curves["rotation"].probabilities[number, 1]]
        got.append(study.curves["translation"].probabilities[number, 2])
        np.testing.assert_allclose(got, told, rtol=1e-4, atol=1e-6)


def test_labels_name_the_class_that_is_looked_at(client: Client, drawn: Path) -> None:
    by_folder = studies.invariance(
        client, drawn, ["classifier.4"], labels="folders", translations=[8], scales=(), rotations=()
    )
    assert list(by_folder.classes) == [path.parent.name for path in by_folder.pictures]
    assert list(by_folder.curves) == ["translation"]
    first = by_folder.pictures[0]
    scores = client.classify(first, top_k=10).classes
    told = next(score.probability for score in scores if score.label == first.parent.name)
    assert by_folder.curves["translation"].unchanged[0] == pytest.approx(told, rel=1e-4)


@pytest.mark.parametrize("fill", ["mean", "edge", "mirror"])
def test_what_is_empty_is_filled(client: Client, fill: Any) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 6, 3), np.uint8)
    made = changed(pixels, Change("translation", 3), fill, client.network().input)
    np.testing.assert_array_equal(made[3:], pixels[:5])
    expected = {"mean": np.full((3, 6, 3), 128), "edge": pixels[[0, 0, 0]], "mirror": pixels[2::-1]}
    np.testing.assert_array_equal(made[:3], expected[fill])


def test_turns_and_scales_are_around_the_centre(client: Client) -> None:
    input, rng = client.network().input, np.random.default_rng(1)
    pixels = rng.integers(0, 256, (8, 8, 3), np.uint8)
    for quarter in range(5):
        made = changed(pixels, Change("rotation", 90.0 * quarter), "mean", input)
        np.testing.assert_array_equal(made, np.rot90(pixels, quarter))
    steps = np.arange(9.0)
    ramp = (10 * (steps[:, None] + 2 * steps)[..., None]).repeat(3, 2).astype(np.uint8)
    # Twice as large, a slope is half as steep around the same centre.
    expected = 10 * ((steps[:, None] + 4) / 2 + (steps + 4))
    made = changed(ramp, Change("scale", 2.0), "mean", input)[..., 0]
    np.testing.assert_allclose(made, expected, atol=0.5)


def pictures_of_many_kinds(folder: Path) -> list[Path]:
    rng = np.random.default_rng(2)
    smooth = Image.fromarray(rng.integers(0, 256, (6, 9, 4), np.uint8)).resize((300, 171))
    deep = Image.fromarray(np.linspace(0, 65535, 90 * 60, dtype=np.uint16).reshape(60, 90))
    exif = Image.Exif()
    exif[0x0112] = 6
    rgb = smooth.convert("RGB")
    made = {
        "wide.png": rgb,
        "tall.bmp": rgb.transpose(Image.Transpose.ROTATE_90),
        "clear.png": smooth,
        "grey.png": rgb.convert("L"),
        "palette.gif": rgb.convert("P"),
        "deep.png": deep,
        "small.webp": rgb.resize((40, 30)),
    }
    for name, image in made.items():
        image.save(folder / name)
    rgb.save(folder / "turned.jpg", exif=exif)
    return [*(folder / name for name in made), folder / "turned.jpg"]


def test_pictures_come_to_the_input_size_as_on_the_server(client: Client, tmp_path: Path) -> None:
    input = client.network().input
    for path in pictures_of_many_kinds(tmp_path):
        pixels = input_pixels(path, input)
        here = client.extract_features(pixels, "features.0", geometry="as_is")["features.0"]
        there = client.extract_features(path, "features.0")["features.0"]
        np.testing.assert_allclose(here, there, atol=1e-5, err_msg=path.name)


def test_what_is_no_picture_is_said_as_the_server_says_it(client: Client, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(InvalidImage, match="The image cannot be read: ") as error:
        input_pixels(tmp_path / "broken.png", client.network().input)
    assert error.value.reason == "IMAGE_UNREADABLE"
    Image.new("L", (20000, 1)).save(tmp_path / "long.png")
    with pytest.raises(InvalidImage, match="too far from a square"):
        input_pixels(tmp_path / "long.png", client.network().input)


def test_the_mean_is_over_all_pictures(study) -> None:
    means = study.tables()["Means"]
    row = means[(means["change"] == "scale") & (means["amount"] == 1.5)].iloc[0]
    single = study.tables()["Each picture"].query("change == 'scale' and amount == 1.5")
    assert len(single) == len(study.pictures)
    for name in (*LAYERS, "probability"):
        assert row[name] == pytest.approx(single[name].mean())
    unchanged = means[(means["amount"] == 0) | (means["amount"] == 360)]
    assert (unchanged[LAYERS].to_numpy() == 0).all() and len(unchanged) == 3


def test_findings_say_what_the_curves_have() -> None:
    from convlens.client.studies._invariance import Curves
    from convlens.client.studies._invariance_words import findings

    def curves(kind, amounts, first, last, probability):
        changes = [Change(kind, amount) for amount in amounts]
        distances = np.array([[first], [last]], float)
        return Curves(changes, distances, np.array([probability], float), np.array([1.0]), [])

    gradual: Any = {
        "translation": curves("translation", [-8, 0, 4], [2, 0, 2], [1, 0, 0.2], [0.9, 1, 0.9]),
        "scale": curves("scale", [1, 1.4, 1.8], [0, 2, 2], [0, 0.5, 1], [1, 0.9, 0.8]),
        "rotation": curves("rotation", [0, 15, 180], [0, 2, 2], [0, 0.2, 1], [1, 0.5, 0.1]),
    }
    first, moved, *_, told = findings(["one", "two"], gradual)
    assert first.startswith("As in Zeiler & Fergus's figure 5, one changes at once and two gradu")
    assert moved == (
        "The smallest translation, 4 pixels, takes one 200 % of the way to another picture and two "
        "20 %: 100 % and 20 % of the most that any takes them."
    )
    assert told.startswith("As in Zeiler & Fergus's figure 5, the answer is stable under transl")
    assert "and 30 % under rotation (at worst 10 %, at 180°)" in told
    turned: Any = {**gradual, "rotation": curves("rotation", [0, 90], [0, 1], [0, 1], [1, 1])}
    first, *_, told = findings(["one", "two"], turned)
    assert "but not under rotation" in first and told.startswith("Unlike in Zeiler & Fergus's")
    # Nearly as soon is no sooner.
    turned["rotation"] = curves("rotation", [0, 90, 180], [0, 1, 1], [0, 0.98, 1], [1, 1, 1])
    assert "but not under rotation" in findings(["one", "two"], turned)[0]


def test_an_interrupted_study_goes_on(
    client: Client, four: list[Path], tmp_path: Path, study
) -> None:
    def interrupt(what: str, done: int, total: int) -> None:
        if what == "moving about" and done == 3:
            raise KeyboardInterrupt

    state, counts = tmp_path / "state", list[int]()
    with pytest.raises(KeyboardInterrupt):
        studies.invariance(client, four, LAYERS, **FEW, state=state, progress=interrupt)
    resumed = studies.invariance(
        client,
        four,
        LAYERS,
        **FEW,
        state=state,
        progress=lambda what, done, _: counts.append(done) if what == "moving about" else None,
    )
    assert counts == [3, 4]
    for kind, curves in study.curves.items():
        got = resumed.curves[kind].distances
        np.testing.assert_allclose(got, curves.distances, rtol=1e-5, atol=1e-6)
    other: Any = {**FEW, "scales": [2]}
    with pytest.raises(InvalidRequest, match="is of a run with changes"):
        studies.invariance(client, four, LAYERS, **other, state=state)


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"layers": ["features.99"]}, NotFound, "features.99"),
        ({"layers": []}, InvalidRequest, "No layers are named"),
        ({"layers": ["logits", "logits"]}, InvalidRequest, "'logits' is named twice"),
        ({"translations": [1.5]}, InvalidRequest, "a whole number of pixels, from -127 to 127"),
        ({"translations": [128]}, InvalidRequest, "A translation is 128"),
        ({"translations": [0]}, InvalidRequest, "Every translation leaves the picture as it is"),
        ({"scales": [0]}, InvalidRequest, "a factor from 0.001 to 1000"),
        ({"rotations": [float("nan")]}, InvalidRequest, "A rotation is nan"),
        ({"translations": (), "scales": (), "rotations": ()}, InvalidRequest, "Nothing is changed"),
        ({"fill": "black"}, InvalidRequest, "one of mean, edge, mirror"),
        ({"labels": "folders"}, InvalidRequest, "those of one folder"),
    ],
)
def test_what_cannot_be_compared_is_refused(client, four, given, error, words) -> None:
    changed_ones: dict[str, Any] = {"layers": LAYERS, **FEW, **given}
    with pytest.raises(error, match=words):
        studies.invariance(client, four, **changed_ones)


def test_one_picture_is_nothing_to_compare_with(client: Client, four: list[Path], tmp_path) -> None:
    few: Any = {"layers": ["logits"], "translations": [8], "scales": (), "rotations": ()}
    with pytest.raises(InvalidRequest, match="Only one picture has an answer"):
        studies.invariance(client, four[:1], **few)
    for name in ("one.png", "other.png"):
        shutil.copy(four[0], tmp_path / name)
    with pytest.raises(InvalidRequest, match="All pictures have the same code at logits"):
        studies.invariance(client, tmp_path, **few)


def test_labels_that_do_not_match_are_refused(client: Client, drawn: Path, tmp_path: Path) -> None:
    file = tmp_path / "labels.csv"
    file.write_text("file,label\nstar/0000.png,star\n")
    with pytest.raises(InvalidRequest, match="has no label in"):
        studies.invariance(client, drawn, LAYERS, labels=file)
    folder = tmp_path / "pictures" / "dog"
    shutil.copytree(drawn / "star", folder)
    with pytest.raises(InvalidRequest, match="has no class 'dog'"):
        studies.invariance(client, folder.parent, LAYERS, labels="folders")


def test_the_command_skips_what_cannot_be_read(run, four: list[Path], tmp_path: Path) -> None:
    folder, out = tmp_path / "pictures", tmp_path / "out"
    folder.mkdir()
    for path in four:
        shutil.copy(path, folder)
    (folder / "broken.png").write_bytes(b"no picture")
    given = ["--translations", "-8,8", "--scales", "1.2", "--rotations", "45", "--fill", "mirror"]
    layers = "features.2,features.12,logits"
    result = run("invariance", folder, "--layers", layers, *given, "--out", out)
    assert result.exit_code == 1
    assert "broken.png: The image cannot be read" in result.stderr
    document = json.loads((out / "study.json").read_text())
    assert [Path(each["picture"]).name for each in document["skipped"]] == ["broken.png"]
    assert {file.name for file in out.iterdir()} == {
        *("page.html", "study.json", "distances-and-probability.png"),
        *("mean-distances-of-all-layers.png", "means.csv", "each-picture.csv"),
        "distance-to-another-picture.csv",
    }
