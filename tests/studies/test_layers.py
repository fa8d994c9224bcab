"""Probes of layers against scikit-learn on codes of plain torch, and how the study ends badly."""

import json
import shutil
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.svm import LinearSVC

from convlens.client import Client, InvalidRequest, NotFound, studies
from convlens.client._picture_files import found
from convlens.client.studies._codes import MOST_NUMBERS, gridded
from convlens.client.studies._probes import splits_of
from convlens.client.studies._study import Facts
from convlens.workers.shapes.draw import CLASSES, draw
from convlens.workers.shapes.network import load, normalised

KINDS = 4
EACH = 9
# Maps that are pooled, maps that are not, and a vector.
LAYERS = ["features.10", "features.18", "classifier.2"]
PER_CLASS, SPLITS, SEED, REDUCED = 4, 2, 7, 5


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As many shapes of each of four classes, smaller than those of the training."""
    folder = tmp_path_factory.mktemp("layers")
    for number in range(KINDS * EACH):
        label = number % KINDS
        file = folder / CLASSES[label] / f"{number:03}.png"
        file.parent.mkdir(exist_ok=True)
        Image.fromarray(draw(number, label=label, scale=0.11).image).save(file)
    return folder


@pytest.fixture(scope="session")
def probed(client: Client, small: Path) -> studies.Layers:
    return studies.layers(
        client,
        small,
        # Not in the order of depth.
        LAYERS[::-1],
        per_class=PER_CLASS,
        splits=SPLITS,
        dimensions=[REDUCED],
        seed=SEED,
    )


def plain_codes(folder: Path) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Codes of all pictures by torch alone, and their classes."""
    paths = found(folder)
    pixels = normalised(torch.tensor(np.stack([np.asarray(Image.open(path)) for path in paths])))
    network, codes, x = load(), {}, pixels
    with torch.no_grad():
        for name in ("features", "classifier"):
            for number, layer in enumerate(getattr(network, name)):
                # Layers overwrite what they take.
                x = layer(x.clone())
                codes[f"{name}.{number}"] = x
    pooled = F.adaptive_max_pool2d(codes["features.10"], 9)
    codes["features.10"] = pooled
    names = sorted({path.parent.name for path in paths})
    truth = np.array([names.index(path.parent.name) for path in paths])
    return {name: codes[name].flatten(1).double().numpy() for name in LAYERS}, truth


def reference(codes: np.ndarray, truth: np.ndarray, kind: str, dimensions: int | None):
    """The accuracies of the splits, without the tricks: no rotation where none is asked for."""
    codes = codes / np.linalg.norm(codes, axis=1, keepdims=True)
    accuracies = []
    for split in splits_of(truth, PER_CLASS, SPLITS, SEED):
        centred = codes - codes[split.train].mean(0)
        if dimensions is not None:
            directions = np.linalg.svd(centred[split.train], full_matrices=False)[2]
            centred = centred @ directions[:dimensions].T
        bare = (
            LinearSVC(dual=cast(Any, False))
            if kind == "SVM"
            else LogisticRegression(tol=1e-6, max_iter=10_000)
        )
        costs = {"C": [1, 10, 100, 1000]}
        search = GridSearchCV(bare, costs, cv=StratifiedKFold(3))
        search.fit(centred[split.train], truth[split.train])
        told = search.predict(centred[split.test])
        right = [np.mean(told[truth[split.test] == each] == each) for each in range(KINDS)]
        accuracies.append(np.mean(right))
    return accuracies


@pytest.mark.parametrize("dimensions", [None, REDUCED])
@pytest.mark.parametrize("kind", ["SVM", "softmax"])
def test_they_are_those_of_scikit_learn_on_codes_of_torch(probed, small, kind, dimensions) -> None:
    codes, truth = plain_codes(small)
    # Without a rotation softmax takes long to learn from thousands of numbers.
    is_long = kind == "softmax" and dimensions is None
    for layer in LAYERS[1:] if is_long else LAYERS:
        got = probed.probe(layer, kind, dimensions)
        expected = reference(codes[layer], truth, kind, dimensions)
        assert got.accuracies == pytest.approx(expected, abs=1e-9), layer
        assert got.mean == pytest.approx(np.mean(expected))
        assert got.deviation == pytest.approx(np.std(expected, ddof=1))


def test_layers_are_in_the_order_of_depth(client: Client, small: Path, probed) -> None:
    assert list(probed.layers) == LAYERS
    assert [probed.probe(layer).dimensions for layer in LAYERS] == [48 * 9 * 9, 1024, 128]
    named = ["logits", "cnn-code", "features.18"]
    found_ones = studies.layers(client, small, named, per_class=2, splits=1)
    assert list(found_ones.layers) == named[::-1]
    assert found_ones.probe("logits").deviation == 0


@pytest.mark.parametrize("shape", [(24, 128, 128), (64, 16, 16), (48, 20, 7), (5000, 3, 2), (6, 2)])
def test_maps_are_pooled_as_torch_pools_them(shape) -> None:
    values = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    if len(shape) == 2:
        with pytest.raises(InvalidRequest, match="layer are 6 x 2, neither a vector nor maps"):
            gridded(values, "layer")
        return
    side = max(1, int((MOST_NUMBERS / shape[0]) ** 0.5))
    size = (min(side, shape[1]), min(side, shape[2]))
    expected = F.adaptive_max_pool2d(torch.tensor(values), size).flatten().numpy()
    np.testing.assert_array_equal(gridded(values, "layer"), expected)
    assert len(expected) <= max(MOST_NUMBERS, shape[0])


def test_splits_take_as_many_of_each_class_and_judge_by_all_others() -> None:
    truth = np.repeat([0, 1, 2], [4, 7, 20])
    many = splits_of(truth, 3, 6, 1)
    for split in many:
        assert np.bincount(truth[split.train]).tolist() == [3, 3, 3]
        assert sorted([*split.train, *split.test]) == list(range(31))
    assert len({tuple(split.test) for split in many}) == 6
    np.testing.assert_array_equal(splits_of(truth, 3, 2, 1)[1].test, many[1].test)
    assert any(splits_of(truth, 3, 1, 2)[0].test != many[0].test)


def test_a_reduction_that_there_is_not_is_said(client: Client, small: Path) -> None:
    shown = studies.layers(
        client, small, ["logits"], per_class=3, splits=1, dimensions=[4, 11, 500]
    )
    assert [each.dimensions for each in shown.probes if each.is_reduced] == [4, 4]
    assert shown.findings[-1].endswith("so many dimensions: logits to 11, logits to 500.")


def test_what_is_left_out_is_half_of_the_smallest_class(client: Client, small: Path) -> None:
    assert studies.layers(client, small, ["logits"], splits=1).per_class == EACH // 2


def test_an_interrupted_run_goes_on_and_other_splits_need_no_answers(
    client: Client, small: Path, tmp_path: Path
) -> None:
    def interrupt(what: str, done: int, total: int) -> None:
        if what == "reading" and done == 20:
            raise KeyboardInterrupt

    state = tmp_path / "state"
    given: dict[str, Any] = {"layers": ["logits"], "per_class": 2, "splits": 1, "state": state}
    with pytest.raises(KeyboardInterrupt):
        studies.layers(client, small, progress=interrupt, **given)
    for seed, begun in ((0, 20), (1, KINDS * EACH)):
        counts: list[int] = []
        again = studies.layers(
            client,
            small,
            seed=seed,
            progress=lambda what, done, _, to=counts: what == "reading" and to.append(done),
            **given,
        )
        assert counts[0] == begun
        fresh = studies.layers(
            client, small, ["logits"], per_class=2, splits=1, seed=seed, state=None
        )
        assert again.probe("logits").accuracies == fresh.probe("logits").accuracies


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"layers": ["features.99"]}, NotFound, "has no layer 'features.99'"),
        ({"layers": []}, InvalidRequest, "No layer is named"),
        ({"layers": ["logits", "logits"]}, InvalidRequest, "logits is named twice"),
        ({"per_class": 9}, InvalidRequest, "has 9 pictures; 9 to learn from .* ask for 8 at most"),
        ({"per_class": 0}, InvalidRequest, "per_class is 0; it must be at least 1"),
        ({"splits": 0}, InvalidRequest, "splits is 0"),
        ({"dimensions": [0]}, InvalidRequest, "dimensions has 0"),
    ],
)
def test_what_cannot_be_learned_is_refused(client, small, given, error, words) -> None:
    with pytest.raises(error, match=words):
        studies.layers(client, small, **dict[str, Any]({"layers": ["logits"], **given}))


def test_one_class_only_is_refused(client: Client, small: Path, tmp_path: Path) -> None:
    shutil.copytree(small / "ring", tmp_path / "ring")
    with pytest.raises(InvalidRequest, match="All pictures are of the class 'ring'"):
        studies.layers(client, tmp_path, ["logits"])
    shutil.copytree(small / "circle", tmp_path / "circle")
    for picture in found(tmp_path / "circle")[1:]:
        picture.unlink()
    with pytest.raises(InvalidRequest, match="'circle' has 1 picture; 1 to learn from"):
        studies.layers(client, tmp_path, ["logits"])


def test_a_class_that_cannot_be_read_is_no_class(client: Client, small: Path, tmp_path: Path):
    for name in ("ring", "circle"):
        shutil.copytree(small / name, tmp_path / name)
    for picture in found(tmp_path / "circle"):
        picture.write_bytes(b"no picture")
    with pytest.raises(InvalidRequest, match="All pictures are of the class 'ring'"):
        studies.layers(client, tmp_path, ["logits"])


def test_labels_that_match_no_files_are_refused(client, small: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels.csv"
    labels.write_text("file,label\nring/001.png,ring\n")
    with pytest.raises(InvalidRequest, match="has no label in"):
        studies.layers(client, small, ["logits"], labels=labels)


def invented(*means: float, deviation: float = 0.01) -> list[str]:
    """What is said of layers a, b, … with these means."""
    layers, half = "abcdef"[: len(means)], deviation / 2**0.5
    probes = [
        studies.Probe(layer, kind, 10, False, (mean - half, mean + half))
        for layer, mean in zip(layers, means, strict=True)
        for kind in ("SVM", "softmax")
    ]
    facts = Facts("x@1", "", 10, 1.0)
    return list(studies.Layers(facts, layers, ["p", "q"], 3, probes).findings)


def test_it_says_whether_deeper_layers_are_better() -> None:
    assert "Deeper layers are better: from a with 50.0 ± 1.0 % to c" in invented(0.5, 0.7, 0.9)[1]
    assert "Deeper layers are better up to b with 90.0" in invented(0.5, 0.9, 0.7)[1]
    assert "c falls to 70.0 ± 1.0 %, and a has 50.0 ± 1.0 %" in invented(0.5, 0.9, 0.7)[1]
    assert "are not better here: a has 90.0 ± 1.0 %, c 50.0" in invented(0.9, 0.7, 0.5)[1]
    assert "are not better here: b has most, 95.0 ± 1.0 %; a has" in invented(0.9, 0.95, 0.5)[1]
    assert invented(0.9, 0.95, 0.5)[0].startswith("b tells the classes best, by a linear SVM: 95")
    assert "better on the whole" in invented(0.5, 0.7, 0.6, 0.9)[1]
    assert invented(0.5, 0.7, 0.6, 0.9)[1].endswith("but not at c.")
    assert "depth makes no difference" in invented(0.9, 0.905, 0.9)[1]
    assert "from 3 of each of 2 classes" in invented(0.5)[0]
    assert "SVM and softmax agree" in invented(0.5)[1]


def test_the_command_writes_all_of_it(run, small: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / "pictures", tmp_path / "out"
    shutil.copytree(small, folder)
    (folder / "ring" / "broken.png").write_bytes(b"no picture")
    given = ["--layers", "classifier.2, logits", "--per-class", 3, "--splits", 2]
    result = run("layers", folder, *given, "--dimensions", "4", "--out", out)
    assert result.exit_code == 1
    assert "broken.png" in result.stderr
    assert {file.name for file in out.iterdir()} == {
        *("page.html", "study.json", "accuracy-by-layer.csv", "accuracy-of-reduced-codes.csv"),
        *("accuracy-against-depth.png", "accuracy-against-dimensions.png"),
    }
    document = json.loads((out / "study.json").read_text())
    assert len(document["skipped"]) == 1 and document["pictures"] == KINDS * EACH
    head, *lines = (out / "accuracy-by-layer.csv").read_text().splitlines()
    words = "layer,dimensions,SVM %,SVM ±,softmax %,softmax ±"
    assert head == f'{words},"trained on, per class",splits'
    assert [line.split(",")[0] for line in lines] == ["classifier.2", "logits"]


@pytest.mark.parametrize(
    "given", [["--layers", "nothing"], ["--layers", "logits", "--per-class", 99]]
)
def test_a_command_that_fails_leaves_nothing(run, small: Path, tmp_path: Path, given) -> None:
    result = run("layers", small, *given, "--out", tmp_path / "out")
    assert result.exit_code == 1 and result.stderr.startswith("convlens: ")
    assert "Traceback" not in result.stderr and not (tmp_path / "out").exists()
