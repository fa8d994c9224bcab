"""The evolution over real checkpoints, against a loop over whole maps and the files' weights."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import load_file

from convlens.client import Client, InvalidRequest, NotFound, studies
from convlens.client._picture_files import found
from convlens.client.cli._program import program
from convlens.workers.shapes.network import CHECKPOINTS, WEIGHTS

LAYER = "features.12"
NETWORKS = ("shapes-704", "shapes-7168", "shapes")
FILES = (
    CHECKPOINTS / "visits-000704.safetensors",
    CHECKPOINTS / "visits-007168.safetensors",
    WEIGHTS,
)


@pytest.fixture(scope="module")
def evolved(training: Client, drawn: Path) -> studies.Evolution:
    return studies.evolution(training, drawn, NETWORKS, LAYER, maps=[12, 38])


def test_the_strongest_patches_are_those_of_a_loop(
    evolved: studies.Evolution, training: Client, drawn: Path
) -> None:
    paths = found(drawn)
    for network, one in zip(NETWORKS, evolved.checkpoints, strict=True):
        assert one.network == f"{network}@1"
        for index in (12, 38):
            best = (-np.inf, paths[0])
            answers = training.extract_features(paths, LAYER, network=network)
            for path, answer in zip(paths, answers, strict=True):
                for row in answer[LAYER][index]:
                    for value in row:
                        if value > best[0]:
                            best = (float(value), path)
            patch = one.patches[index]
            assert patch.picture == best[1]
            assert patch.activation == pytest.approx(best[0], rel=1e-5)


def test_the_filters_are_those_of_the_files(evolved: studies.Evolution) -> None:
    weights = [load_file(file)["features.0.weight"].astype(float) for file in FILES]
    for one, expected in zip(evolved.checkpoints, weights, strict=True):
        assert one.filters is not None
        np.testing.assert_array_equal(one.filters.weights, expected)
    whole = np.linalg.norm(weights[-1])
    changes = evolved.filter_changes()
    assert np.isnan(changes[0][0]) and changes[-1][1] == 0
    assert changes[1][0] == pytest.approx(np.linalg.norm(weights[1] - weights[0]) / whole)
    assert changes[0][1] == pytest.approx(np.linalg.norm(weights[2] - weights[0]) / whole)
    # The lectures' sign of learning: noise first, then structure.
    verdicts = [one.filters.verdict for one in evolved.checkpoints if one.filters]
    assert verdicts == ["too noisy, lacks structure", "too noisy, lacks structure", "fine"]


def test_another_picture_is_a_jump(evolved: studies.Evolution) -> None:
    for index, jumps in evolved.jumps().items():
        pictures = [one.patches[index].picture for one in evolved.checkpoints]
        assert list(jumps) == [at for at in (1, 2) if pictures[at] != pictures[at - 1]]
    assert sum(map(len, evolved.jumps().values())) > 0
    table = evolved.tables()["Strongest patches"]
    assert table["jump"].sum() == sum(map(len, evolved.jumps().values()))


def test_without_maps_those_excited_most_at_the_end_are_taken(
    training: Client, drawn: Path
) -> None:
    taken = studies.evolution(training, drawn, NETWORKS[1:], LAYER).maps
    answers = training.extract_features(found(drawn), LAYER, pooling="max", network="shapes")
    most = np.max([answer[LAYER] for answer in answers], axis=0)
    assert list(taken) == sorted(np.argsort(-most)[:8])


def test_a_unit_that_nothing_excites_has_no_patch(training: Client, drawn: Path) -> None:
    """Map 5 of the first layer is dead in "lame", so there is nothing to project there."""
    found_one = studies.evolution(training, drawn, ("shapes", "lame"), "features.1", maps=[5, 7])
    sound, lame = (one.patches for one in found_one.checkpoints)
    assert sound[5].box is not None and lame[5].box is None and lame[7].box is not None
    assert lame[5].activation == 0
    assert len(found_one.figures()) == 3


def test_an_interrupted_run_goes_on_where_it_was(
    training: Client, drawn: Path, tmp_path: Path, evolved: studies.Evolution
) -> None:
    def interrupt(what: str, done: int, total: int) -> None:
        if what == "looking through shapes-7168@1" and done == 25:
            raise KeyboardInterrupt

    given: dict[str, Any] = {"maps": [12, 38], "state": tmp_path / "out" / "state"}
    with pytest.raises(KeyboardInterrupt):
        studies.evolution(training, drawn, NETWORKS, LAYER, progress=interrupt, **given)
    counts: dict[str, list[int]] = {}

    def count(what: str, done: int, total: int) -> None:
        counts.setdefault(what, []).append(done)

    resumed = studies.evolution(training, drawn, NETWORKS, LAYER, progress=count, **given)
    firsts = [counts[f"looking through {name}@1"][0] for name in NETWORKS]
    assert firsts == [40, 25, 0]
    assert resumed.jumps() == evolved.jumps()


@pytest.mark.parametrize(
    ("networks", "given", "error", "words"),
    [
        (["shapes"], {}, InvalidRequest, "at least two different networks"),
        (["shapes", "shapes@1"], {}, InvalidRequest, "at least two different networks"),
        ([], {}, InvalidRequest, "given: none"),
        (["shapes", " "], {}, InvalidRequest, "has no name"),
        (["shapes", "shape-1"], {}, NotFound, "shape-1"),
        (NETWORKS, {"layer": "features.99"}, NotFound, "has no layer 'features.99'"),
        (NETWORKS, {"layer": "classifier.2"}, InvalidRequest, "has no maps"),
        (NETWORKS, {"maps": [64]}, InvalidRequest, "has no map 64"),
    ],
)
def test_what_cannot_be_followed_is_refused(training, drawn, networks, given, error, words) -> None:
    with pytest.raises(error, match=words):
        studies.evolution(training, drawn, networks, **dict[str, Any]({"layer": LAYER, **given}))


def test_the_command_skips_what_cannot_be_read(
    training: Client, drawn: Path, tmp_path: Path
) -> None:
    folder, out = tmp_path / "pictures", tmp_path / "out"
    shutil.copytree(drawn / "star", folder)
    (folder / "a-broken.png").write_bytes(b"no picture")
    words = ["study", "evolution", str(folder), "--networks", "shapes-704,shapes"]
    words += ["--layer", LAYER, "--maps", "38", "--out", str(out)]
    environment = {"CONVLENS_SERVER": training.address}
    result = CliRunner().invoke(program, words, env=environment, catch_exceptions=False)
    assert result.exit_code == 1
    document = json.loads((out / "study.json").read_text())
    assert [Path(each["picture"]).name for each in document["skipped"]] == ["a-broken.png"]
    assert document["network"] == "shapes-704@1, shapes@1"
    assert len(document["figures"]) == 3 and (out / "page.html").exists()
    assert not (out / "state").exists()
    again = [*words, "--network", "shapes", "--overwrite"]
    result = CliRunner().invoke(program, again, env=environment)
    assert result.exit_code == 2 and "--networks names them all" in result.stderr


def test_an_empty_folder_is_refused(training: Client, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="No pictures in"):
        studies.evolution(training, tmp_path, NETWORKS, LAYER)


def test_two_checkpoints_are_not_told_twice(training: Client, drawn: Path) -> None:
    two = studies.evolution(training, drawn / "star", NETWORKS[-2:], LAYER, maps=[38])
    grown, jumps, filters = two.findings
    assert f"of map 38 of {LAYER} changed by a factor of" in grown and "in the median" not in grown
    assert "of 1 step between" in jumps
    assert filters.count("% of their final length") == 1 and "%, and" not in filters
