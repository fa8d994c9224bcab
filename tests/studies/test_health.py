"""Health against a loop over plain torch activations, on networks whose health is known."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from convlens.client import Client, InvalidRequest, NotFound, studies
from convlens.client._picture_files import found
from convlens.client.studies import _activations
from convlens.client.studies._activations import EDGES, reduced
from convlens.workers.shapes.network import load, normalised

RECTIFIED = [f"features.{at}" for at in (1, 4, 7, 9, 12, 14, 17)] + ["classifier.2", "classifier.4"]


def plain(paths: list[Path], names: list[str]) -> dict[str, list[np.ndarray]]:
    """The activations of each picture at some layers, by torch alone."""
    network = load()
    seen: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for name, module in network.named_modules():
        if name in seen:
            module.register_forward_hook(
                lambda _module, _given, out, name=name: seen[name].append(out[0].clone().numpy())
            )
    with torch.no_grad():
        for path in paths:
            pixels = torch.tensor(np.asarray(Image.open(path).convert("RGB")))
            network(normalised(pixels[None]))
    return seen


@pytest.fixture(scope="module")
def healthy(client: Client, drawn: Path) -> studies.HealthStudy:
    return studies.health(client, drawn)


def test_units_are_those_of_a_loop_over_plain_activations(
    healthy: studies.HealthStudy, drawn: Path
) -> None:
    assert [layer.layer for layer in healthy.layers] == RECTIFIED
    expected = plain(found(drawn), RECTIFIED)
    for layer in healthy.layers:
        pictures = expected[layer.layer]
        dead, always = [], []
        for unit in range(len(pictures[0])):
            values = [np.atleast_1d(one[unit]) for one in pictures]
            if all(not (one > 0).any() for one in values):
                dead.append(unit)
            if all((one > 0).all() for one in values):
                always.append(unit)
            close: dict[str, Any] = {"rtol": 1e-3, "atol": 1e-4}
            np.testing.assert_allclose(layer.maximum[unit], np.max(values), **close)
            np.testing.assert_allclose(layer.mean[unit], np.mean(values), **close)
            on = [(one > 0).mean() for one in values]
            np.testing.assert_allclose(layer.places_on[unit], np.mean(on), atol=2e-4)
            assert layer.pictures_on[unit] == pytest.approx(np.mean(np.greater(on, 0)), abs=0.026)
        assert (list(layer.dead), list(layer.always_on)) == (dead, always)
        density = np.mean([(one != 0).mean() for one in pictures])
        assert layer.density == pytest.approx(density, abs=2e-4)
        assert layer.histogram.sum() + layer.zeros == sum(one.size for one in pictures)
        assert layer.densities.shape == (40,)
    assert sum(len(layer.dead) for layer in healthy.layers) > 0


def test_histograms_are_numpys(client: Client, drawn: Path) -> None:
    """Of a convolution, which has values below 0, too; the same numbers go into both."""
    paths = found(drawn)[:4]
    [layer] = studies.health(client, paths, layers=["features.8"], checked=0).layers
    values = [client.extract_features(path, "features.8")[0].ravel() for path in paths]
    expected = np.histogram(np.concatenate(values), EDGES)[0]
    np.testing.assert_array_equal(layer.histogram, expected)
    assert layer.zeros == 0 and (layer.histogram[: len(EDGES) // 2] > 0).any()


def test_what_is_at_an_edge_or_beyond_all_is_counted_as_numpy_does() -> None:
    values = np.array([[*EDGES[1:-1], 1e30, -1e30, 1e-30, -1e-30, 0, 0]], np.float32)
    counts = reduced([values])["histogram"][0]
    expected = np.histogram(values[values != 0], EDGES)[0]
    np.testing.assert_array_equal(counts, [*expected, 3])
    assert reduced([np.array([[np.inf, -np.inf]], np.float32)])["histogram"].sum() == 2


def test_the_trained_network_is_in_good_health(healthy: studies.HealthStudy) -> None:
    assert healthy.filters is not None
    assert healthy.filters.verdict == "fine"
    np.testing.assert_array_equal(
        healthy.filters.weights, load().state_dict()["features.0.weight"].double().numpy()
    )
    assert healthy.gradients_are_right
    assert len({check.picture for check in healthy.gradients}) == 3
    words = " ".join(healthy.findings)
    assert "filters of features.0 look fine" in words and "gradients are right" in words
    assert not healthy.notes


@pytest.mark.parametrize(
    ("network", "verdict"),
    [("shapes-0", "too noisy, lacks structure"), ("repeated", "too correlated")],
)
def test_bad_filters_are_told(training: Client, drawn: Path, network: str, verdict: str) -> None:
    found_one = studies.health(
        training, found(drawn)[:1], layers=["features.1"], checked=1, network=network
    )
    assert found_one.filters is not None
    assert found_one.filters.verdict == verdict
    assert found_one.gradients_are_right


def test_units_that_were_made_lame_are_found(training: Client, drawn: Path) -> None:
    lame = studies.health(training, drawn, layers=["features.1"], checked=0, network="lame")
    sound = studies.health(training, drawn, layers=["features.1"], checked=0, network="shapes")
    assert set(lame.layers[0].dead) - set(sound.layers[0].dead) == {5}
    assert set(lame.layers[0].always_on) - set(sound.layers[0].always_on) == {7}
    assert "1 is dead (in features.1)" in lame.findings[0]
    units = lame.tables()["Units"].set_index("unit")
    assert (units.loc[5, "state"], units.loc[7, "state"]) == ("dead", "always on")


def test_units_that_burst_are_found(training: Client, drawn: Path) -> None:
    burst = studies.health(training, found(drawn)[:2], layers=["features.1"], network="burst")
    assert burst.layers[0].broken == (2,)
    assert burst.findings[0] == "1 is broken (in features.1): infinite, or no number."
    assert ["cannot be read" in note for note in burst.notes] == [True, False]
    assert "The gradient could not be checked: The forward pass with burst@1" in burst.notes[1]
    assert len(burst.figures()) == 2 and burst.tables()["Layers"].loc[0, "broken"] == 1


def test_layers_that_do_not_fit_one_answer_come_in_several(
    client: Client, drawn: Path, healthy: studies.HealthStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_activations, "ANSWER_BYTES", 300_000)
    parts = studies.health(client, drawn, checked=0)
    for one, other in zip(parts.layers, healthy.layers, strict=True):
        np.testing.assert_array_equal(one.histogram, other.histogram)
        assert one.dead == other.dead


def test_an_interrupted_run_goes_on_where_it_was(
    client: Client, drawn: Path, tmp_path: Path
) -> None:
    def interrupt(what: str, done: int, total: int) -> None:
        if what == "looking" and done == 25:
            raise KeyboardInterrupt

    state = tmp_path / "state"
    with pytest.raises(KeyboardInterrupt):
        studies.health(client, drawn, layers=["features.4"], state=state, progress=interrupt)
    counts: list[int] = []
    resumed = studies.health(
        client,
        drawn,
        layers=["features.4"],
        checked=0,
        state=state,
        progress=lambda what, done, total: counts.append(done) if what == "looking" else None,
    )
    assert counts[0] == 25
    whole = studies.health(client, drawn, layers=["features.4"], checked=0)
    np.testing.assert_array_equal(resumed.layers[0].histogram, whole.layers[0].histogram)


def test_a_picture_takes_the_same_little_disk_whatever_its_layers(
    client: Client, drawn: Path, tmp_path: Path
) -> None:
    studies.health(client, found(drawn)[:4], checked=0, state=tmp_path / "state")
    size = sum(file.stat().st_size for file in (tmp_path / "state").glob("*.rows"))
    assert 0 < size / 4 < 25_000


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"layers": ["features.99"]}, NotFound, "has no layer 'features.99'"),
        ({"layers": ["logits"]}, InvalidRequest, "logits is no layer; name the one that gives it"),
        ({"layers": []}, InvalidRequest, "No layer is named"),
        ({"checked": -1}, InvalidRequest, "checked is -1"),
    ],
)
def test_what_cannot_be_looked_at_is_refused(client, drawn, given, error, words) -> None:
    with pytest.raises(error, match=words):
        studies.health(client, drawn, **given)


def test_the_command_writes_a_page_and_skips_what_cannot_be_read(
    run, drawn: Path, tmp_path: Path
) -> None:
    folder, out = tmp_path / "pictures", tmp_path / "out"
    shutil.copytree(drawn / "star", folder)
    (folder / "a-broken.png").write_bytes(b"no picture")
    result = run("health", folder, "--layer", "classifier.2", "--gradients", 1, "--out", out)
    assert result.exit_code == 1
    assert "a-broken.png: The image cannot be read" in result.stderr
    document = json.loads((out / "study.json").read_text())
    assert [Path(each["picture"]).name for each in document["skipped"]] == ["a-broken.png"]
    tables = {"Layers", "First layer", "Filters", "Gradient check", "Units", "Histograms"}
    assert set(document["tables"]) == tables and len(document["figures"]) == 4
    for name in (*document["tables"].values(), *document["figures"].values(), "page.html"):
        assert (out / name).stat().st_size > 0
    assert not (out / "state").exists()
