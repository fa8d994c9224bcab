"""Top patches against a loop over whole maps, and how the study ends in bad cases."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from convlens.client import Client, InvalidRequest, NotFound, studies
from convlens.client._picture_files import found

LAYER = "features.12"


def brute_force(client: Client, paths: list[Path], index: int, count: int):
    """Every unit of every picture, one after the other; each picture's best one is kept."""
    best = []
    for path in paths:
        values = client.extract_features(path, LAYER)[LAYER][index]
        top = None
        for row in range(values.shape[0]):
            for column in range(values.shape[1]):
                if top is None or values[row, column] > top[0]:
                    top = (float(values[row, column]), path, (row, column))
        best.append(top)
    return sorted(best, key=lambda each: -each[0])[:count]


def test_they_are_those_of_a_loop_over_all_units(client: Client, drawn: Path) -> None:
    found_ones = studies.top_patches(client, drawn, LAYER, maps=[3, 38], count=5)
    paths = found(drawn)
    for index in (3, 38):
        expected = brute_force(client, paths, index, 5)
        got = found_ones.patches[index]
        assert [(p.picture, p.position) for p in got] == [(path, at) for _, path, at in expected]
        np.testing.assert_allclose(
            [p.activation for p in got], [value for value, _, _ in expected], rtol=1e-5
        )


def test_each_patch_shows_what_its_unit_sees(client: Client, drawn: Path) -> None:
    patch: Any
    [patch] = studies.top_patches(client, drawn, LAYER, maps=[38], count=1).patches[38]
    picture = np.asarray(Image.open(patch.picture)) / 255
    left, top, right, bottom = map(int, patch.box)
    assert (bottom - top, right - left) == patch.pixels.shape[:2] == patch.projection.shape[:2]
    np.testing.assert_allclose(patch.pixels, picture[top:bottom, left:right], atol=1e-6)
    field: Any = client.network().anatomy.layers
    [extent] = [layer.receptive_field.vertical for layer in field if layer.name == LAYER]
    middle = extent.offset + extent.jump * patch.position[0]
    assert top <= middle <= bottom and bottom - top <= extent.size
    # The projection is of this unit: pixels that speak for it make it stronger.
    nudged = np.zeros_like(picture, np.float32)
    nudged[top:bottom, left:right] = 0.02 * np.sign(patch.projection)
    more = np.clip(picture + nudged, 0, 1).astype(np.float32)
    map_of = client.extract_features(more, LAYER, geometry="as_is")[LAYER][38]
    assert map_of[patch.position] > patch.activation


def test_a_region_lies_on_the_original_picture(client: Client, drawn: Path, tmp_path: Path) -> None:
    small = Image.open(found(drawn)[0])
    wide = Image.new("RGB", (512, 256), "grey")
    wide.paste(small.resize((256, 256), Image.Resampling.NEAREST), (128, 0))
    wide.save(tmp_path / "wide.png")
    patch: Any
    [patch] = studies.top_patches(client, tmp_path, LAYER, maps=[38], count=1).patches[38]
    # The network sees the middle 256 x 256 pixels at half their size.
    left, top, right, bottom = patch.box
    assert patch.region == (128 + 2 * left, 2 * top, 128 + 2 * right, 2 * bottom)


def test_without_maps_the_most_excited_ones_are_taken(client: Client, drawn: Path) -> None:
    taken = set(studies.top_patches(client, drawn, LAYER, count=1).patches)
    codes = [client.extract_features(path, LAYER, pooling="max")[LAYER] for path in found(drawn)]
    most = np.sort(np.max(codes, axis=0))[-16:]
    assert len(taken) == 16
    assert min(np.max(codes, axis=0)[list(taken)]) >= most[0] - 1e-5


def test_an_interrupted_run_goes_on_where_it_was(
    client: Client, drawn: Path, tmp_path: Path
) -> None:
    def interrupt(what: str, done: int, total: int) -> None:
        if what == "looking" and done == 25:
            raise KeyboardInterrupt

    state = tmp_path / "state" / "patches"
    with pytest.raises(KeyboardInterrupt):
        studies.top_patches(
            client, drawn, LAYER, maps=[38], count=3, state=state, progress=interrupt
        )
    counts: list[int] = []
    resumed = studies.top_patches(
        client,
        drawn,
        LAYER,
        maps=[38],
        count=3,
        state=state,
        progress=lambda what, done, total: counts.append(done) if what == "looking" else None,
    )
    assert counts[0] == 25
    whole = studies.top_patches(client, drawn, LAYER, maps=[38], count=3)
    assert [p.picture for p in resumed.patches[38]] == [p.picture for p in whole.patches[38]]


def test_a_state_of_other_layers_is_refused(client: Client, drawn: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    studies.top_patches(client, drawn, LAYER, maps=[0], count=1, state=state)
    with pytest.raises(InvalidRequest, match="is of a run with the layers features"):
        studies.top_patches(client, drawn, "features.4", maps=[0], count=1, state=state)


def test_fewer_pictures_than_asked_for_are_all(client: Client, drawn: Path) -> None:
    three = found(drawn)[:3]
    assert len(studies.top_patches(client, three, LAYER, maps=[38]).patches[38]) == 3


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"layer": "features.99"}, NotFound, "has no layer 'features.99'"),
        ({"layer": "feature.8"}, NotFound, "did you mean features.8"),
        ({"layer": "cnn-code"}, InvalidRequest, "cnn-code is no layer; name the one that gives"),
        ({"layer": "classifier.2"}, InvalidRequest, "has no maps"),
        ({"maps": [64]}, InvalidRequest, "has no map 64; it has 0 to 63"),
        ({"maps": []}, InvalidRequest, "No map is named"),
        ({"count": 0}, InvalidRequest, "at least 1"),
    ],
)
def test_what_cannot_be_shown_is_refused(client, drawn, given, error, words) -> None:
    with pytest.raises(error, match=words):
        studies.top_patches(client, drawn, **dict[str, Any]({"layer": LAYER, **given}))


def test_the_command_skips_what_cannot_be_read(run, drawn: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / "pictures", tmp_path / "out"
    shutil.copytree(drawn / "star", folder)
    (folder / "broken.png").write_bytes(b"no picture")
    result = run("top-patches", folder, "--layer", LAYER, "--maps", "38", "--out", out)
    assert result.exit_code == 1
    assert "broken.png: The image cannot be read" in result.stderr
    document = json.loads((out / "study.json").read_text())
    assert [Path(each["picture"]).name for each in document["skipped"]] == ["broken.png"]
    assert {file.name for file in out.iterdir()} == {
        *("page.html", "patches.csv", "study.json"),
        *("strongest-patches-of-features-12.png", "where-they-excite-features-12.png"),
    }
    again = run("top-patches", folder, "--layer", LAYER, "--out", out)
    assert again.exit_code == 1 and "has a study already" in again.stderr
