"""Neighbours against exact search by NumPy; the index, its resumption, and how it refuses."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from qdrant_client import QdrantClient, models

from convlens.client import Client, FailedPrecondition, InvalidRequest, NotFound, studies
from convlens.client._picture_files import found
from convlens.client.studies._code_index import IndexedPicture, opened
from convlens.client.studies._walk import unheard
from tests.conftest import running_server
from tests.studies.qdrant_rest import qdrant_server


@pytest.fixture(scope="module")
def index(client: Client, drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The drawn shapes' codes; read only."""
    folder = tmp_path_factory.mktemp("neighbours") / "index"
    studies.index_pictures(client, drawn, folder)
    return folder


def codes_of(client: Client, paths: list[Path], layer: str, **options) -> np.ndarray:
    rows = [client.extract_features(path, layer, **options)[layer].ravel() for path in paths]
    return np.stack(rows).astype(np.float64)


def exact_search(codes: np.ndarray, query: np.ndarray) -> list[tuple[int, float]]:
    """Every cosine, one after the other."""
    cosines = []
    for number, code in enumerate(codes):
        length = np.sqrt(np.sum(code * code)) * np.sqrt(np.sum(query * query))
        cosines.append((number, float(np.sum(code * query) / length)))
    return sorted(cosines, key=lambda each: -each[1])


def assert_exact(study: studies.NeighboursStudy, paths: list[Path], codes: np.ndarray, count: int):
    for number, each in enumerate(study.queries):
        expected = [hit for hit in exact_search(codes, codes[number]) if hit[0] != number][:count]
        similarities = [near.similarity for near in each.neighbours]
        np.testing.assert_allclose(similarities, [cos for _, cos in expected], atol=1e-5)
        # Where two are equally similar, either may come first.
        for near, (_, cosine) in zip(each.neighbours, expected, strict=True):
            [same] = [n for n, path in enumerate(paths) if path.samefile(near.picture)]
            assert dict(exact_search(codes, codes[number]))[same] == pytest.approx(cosine, abs=1e-5)


def test_they_are_those_of_exact_search(client: Client, drawn: Path, index: Path) -> None:
    paths = found(drawn)
    study = studies.neighbours(client, drawn, index, count=5)
    assert [each.query for each in study.queries] == paths
    assert_exact(study, paths, codes_of(client, paths, "cnn-code"), 5)


@pytest.mark.parametrize(
    ("given", "pooling"), [(None, "avg"), ("avg", "avg"), ("max", "max"), ("flatten", "flatten")]
)
def test_maps_are_pooled_by_their_means_unless_it_is_said(
    client: Client, drawn: Path, tmp_path: Path, given: Any, pooling: Any
) -> None:
    paths = found(drawn)[:12]
    made = studies.index_pictures(
        client, paths, tmp_path / "index", layer="features.8", pooling=given
    )
    assert made.pooling == pooling
    study = studies.neighbours(client, paths, tmp_path / "index", count=3)
    assert_exact(study, paths, codes_of(client, paths, "features.8", pooling=pooling), 3)


def test_shares_are_those_of_a_count(client: Client, drawn: Path, index: Path) -> None:
    study = studies.neighbours(client, drawn, index, count=5)
    labels = [path.parent.name for path in found(drawn)]
    for each in study.queries:
        own = each.query.parent.name
        assert each.label == own
        assert each.share == sum(near.picture.parent.name == own for near in each.neighbours) / 5
        assert each.chance == pytest.approx((labels.count(own) - 1) / (len(labels) - 1))
    # The network was taught these classes, and not these pictures.
    assert np.mean([each.share or 0 for each in study.queries]) > 0.7


def test_a_picture_from_elsewhere_has_all_as_neighbours(
    client: Client, drawn: Path, index: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy.png"
    shutil.copy(found(drawn)[7], copy)
    [each] = studies.neighbours(client, copy, index, count=100).queries
    assert (each.label, each.share, len(each.neighbours)) == (None, None, 40)
    assert each.neighbours[0].picture.samefile(found(drawn)[7])
    assert each.neighbours[0].similarity == pytest.approx(1, abs=1e-5)


def test_fewer_pictures_than_asked_for_are_all(client: Client, drawn: Path, index: Path) -> None:
    study = studies.neighbours(client, found(drawn)[0], index, count=50)
    assert len(study.queries[0].neighbours) == 39
    assert "50 neighbours were asked for, and the index has 39 other pictures." in study.findings


def test_a_single_picture_has_none(client: Client, drawn: Path, tmp_path: Path) -> None:
    one = found(drawn)[0]
    studies.index_pictures(client, one, tmp_path / "index")
    study = studies.neighbours(client, one, tmp_path / "index")
    assert [each.neighbours for each in study.queries] == [[]]
    assert study.findings == ["9 neighbours were asked for, and the index has 0 other pictures."]
    study.save(tmp_path / "out")


class Asked:
    """Progress that counts, and ends the run at some picture."""

    def __init__(self, end: int = -1) -> None:
        self.seen: list[int] = []
        self._end = end

    def __call__(self, what: str, done: int, total: int) -> None:
        if what == "indexing":
            self.seen.append(done)
            if done == self._end:
                raise KeyboardInterrupt


def many(folder: Path, count: int) -> Path:
    folder.mkdir()
    for number in range(count):
        noise = np.random.default_rng(number).integers(0, 256, (8, 8, 3), np.uint8)
        Image.fromarray(noise).resize((64, 64)).save(folder / f"{number:04}.png")
    return folder


def test_an_interruption_loses_at_most_one_batch(client: Client, tmp_path: Path) -> None:
    pictures, index = many(tmp_path / "pictures", 100), tmp_path / "index"
    with pytest.raises(KeyboardInterrupt):
        studies.index_pictures(client, pictures, index, progress=Asked(end=90))
    again = Asked()
    made = studies.index_pictures(client, pictures, index, progress=again)
    assert again.seen[0] == 64
    assert (made.pictures, made.added) == (100, 36)
    assert studies.index_pictures(client, pictures, index).added == 0
    paths = found(pictures)
    study = studies.neighbours(client, paths[:5], index, count=4)
    assert_exact(study, paths, codes_of(client, paths, "cnn-code"), 4)


def test_changed_and_new_pictures_are_asked_for_again(
    client: Client, drawn: Path, tmp_path: Path
) -> None:
    folder, index = tmp_path / "pictures", tmp_path / "index"
    shutil.copytree(drawn, folder)
    studies.index_pictures(client, folder, index)
    first, second, *_ = found(folder)
    shutil.copy(second, first)
    os.utime(first, ns=(1, 1))
    shutil.copy(second, folder / second.parent.name / "new.png")
    made = studies.index_pictures(client, folder, index)
    assert (made.pictures, made.added) == (41, 2)
    [each] = studies.neighbours(client, second, index, count=2).queries
    assert {near.picture.name for near in each.neighbours} == {first.name, "new.png"}
    assert [near.similarity for near in each.neighbours] == pytest.approx([1, 1], abs=1e-5)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """Of a server with two networks."""
    file = tmp_path_factory.mktemp("networks") / "networks.yaml"
    file.write_text("networks: [{name: shapes}, {name: shapes-robust}]")
    with running_server(networks=file) as server, Client(server.address) as opened:
        yield opened


def test_another_network_or_layer_is_refused(both: Client, drawn: Path, index: Path) -> None:
    other = r"has codes of shapes@1 .*now they are of shapes-robust@1 .*another index"
    with pytest.raises(InvalidRequest, match=other):
        studies.index_pictures(both, drawn, index, network="shapes-robust")
    with pytest.raises(InvalidRequest, match=other):
        studies.neighbours(both, drawn, index, network="shapes-robust")
    with pytest.raises(InvalidRequest, match=r"cnn-code .*now they are of features\.8"):
        studies.index_pictures(both, drawn, index, layer="features.8")


def test_collections_keep_networks_apart(both: Client, drawn: Path, tmp_path: Path) -> None:
    index = tmp_path / "index"
    for network in ("shapes", "shapes-robust"):
        studies.index_pictures(both, drawn / "star", index, network=network, collection=network)
    study = studies.neighbours(both, drawn / "star", index, collection="shapes-robust")
    assert study.facts.network.startswith("shapes-robust@")


def test_a_server_answers_the_same_calls(
    client: Client, drawn: Path, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = studies.neighbours(client, drawn, index, count=5)
    monkeypatch.setenv("QDRANT_API_KEY", "secret")
    said: list[str] = []
    with qdrant_server("secret") as url:
        for added in (40, 0):
            made = studies.index_pictures(
                client, drawn, url, progress=lambda what, done, total: said.append(what)
            )
            assert (made.pictures, made.added) == (40, added)
        served = studies.neighbours(client, drawn, url, count=5)
        with pytest.raises(InvalidRequest, match="another collection"):
            studies.index_pictures(client, drawn, url, layer="logits")
        monkeypatch.setenv("QDRANT_API_KEY", "wrong")
        with pytest.raises(InvalidRequest, match=r"refused: 401 Must provide.*set QDRANT_API_KEY"):
            studies.neighbours(client, drawn, url)
    assert f"QDRANT_API_KEY goes to {url} in the clear; use https://" in said
    for one, other in zip(local.queries, served.queries, strict=True):
        assert [near.picture for near in one.neighbours] == [n.picture for n in other.neighbours]
        assert (one.label, one.chance) == (other.label, other.chance)


# The library leaves its file open where another one has the lock.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_what_is_no_index_is_refused(client: Client, drawn: Path, tmp_path: Path) -> None:
    def refused(where: str | Path, words: str) -> None:
        with pytest.raises(InvalidRequest, match=words):
            studies.neighbours(client, drawn, where)

    file = tmp_path / "file"
    file.write_text("no index")
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "meta.json").write_text("{")
    with closing(QdrantClient(path=str(tmp_path / "foreign"))) as foreign:
        form = models.VectorParams(size=3, distance=models.Distance.DOT)
        foreign.create_collection("convlens", vectors_config=form)
        refused(tmp_path / "foreign", "Another program has the index")
    refused(tmp_path / "foreign", "is not ConvLens's")
    refused(tmp_path / "none", "There is no index")
    refused(tmp_path, "is no index; name another")
    refused(file, "is a file")
    refused(tmp_path / "damaged", "is damaged")
    refused("http://127.0.0.1:1", "does not answer.*check the address")
    refused("ftp://host", "is no address")
    assert not (tmp_path / "none").exists()


def test_a_full_disk_is_told(client: Client, drawn: Path, tmp_path: Path) -> None:
    index = tmp_path / "index"
    studies.index_pictures(client, drawn / "star", index)
    # As sqlite says it, where the folder has become read-only to it.
    with sqlite3.connect(next(index.rglob("*.sqlite"))) as file:
        file.execute(
            "CREATE TRIGGER full BEFORE INSERT ON points BEGIN SELECT RAISE(FAIL,'full'); END"
        )
    file.close()
    with pytest.raises(InvalidRequest, match="cannot be read or written: full; what is in it"):
        studies.index_pictures(client, drawn, index)


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"layer": "features.99"}, NotFound, "features.99"),
        ({"layer": "cnn-code", "pooling": "avg"}, FailedPrecondition, "no maps"),
        ({"network": "none"}, NotFound, "none"),
    ],
)
def test_what_cannot_be_indexed_leaves_nothing(client, drawn, tmp_path, given, error, words):
    with pytest.raises(error, match=words):
        studies.index_pictures(client, drawn, tmp_path / "index", **given)
    assert not (tmp_path / "index").exists()


def test_no_neighbours_are_no_question(client: Client, drawn: Path, index: Path) -> None:
    with pytest.raises(InvalidRequest, match="at least 1"):
        studies.neighbours(client, drawn, index, count=0)


def test_a_folder_takes_four_bytes_a_number(tmp_path: Path) -> None:
    codes = np.random.default_rng(0).random((200, 2048), np.float32)
    with opened(tmp_path / "index", "convlens", unheard, new=True) as index:
        index.begin(2048, {"network": "any"})
        index.add([(IndexedPicture(Path(f"/{n}.png")), code) for n, code in enumerate(codes)])
    size = sum(file.stat().st_size for file in (tmp_path / "index").rglob("*.sqlite"))
    assert size < 1.7 * codes.nbytes
    with opened(tmp_path / "index", "convlens", unheard) as index:
        [hits] = index.nearest(codes[:1], 200)
    exact = codes.astype(np.float64) @ codes[0].astype(np.float64)
    assert [int(hit.picture.picture.stem) for hit in hits] == list(np.argsort(-exact))
    np.testing.assert_allclose([hit.similarity for hit in hits], -np.sort(-exact), rtol=1e-6)


def test_the_library_says_nothing_of_its_size(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with opened(tmp_path / "index", "convlens", unheard, new=True) as index:
            index.begin(2, {"network": "any"})
            local: Any = index._qdrant._client
            local.collections["convlens"].LARGE_DATA_THRESHOLD = 1
            index.add([(IndexedPicture(Path(f"/{n}")), np.ones(2)) for n in range(3)])


def test_the_command_skips_what_cannot_be_read(run, drawn: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / "pictures", tmp_path / "out"
    shutil.copytree(drawn, folder)
    (folder / "star" / "broken.png").write_bytes(b"no picture")
    result = run("neighbours", folder, "--query", folder, "--count", "4", "--out", out)
    assert result.exit_code == 1
    assert "broken.png: The image cannot be read" in result.stderr
    assert "are of the query's class" in result.stdout
    document = json.loads((out / "study.json").read_text())
    assert document["pictures"] == 40
    assert {Path(each["picture"]).name for each in document["skipped"]} == {"broken.png"}
    assert {file.name for file in out.iterdir()} == {
        *("page.html", "study.json", "neighbours.csv", "neighbours-by-class.csv", "index"),
        "neighbours-by-cnn-code-12-of-40-queries.png",
    }


def test_the_command_says_where_it_goes_on(run, drawn, tmp_path, monkeypatch) -> None:
    import convlens.client.studies._indexing as indexing

    add = indexing.CodeIndex.add

    def interrupted(self, codes) -> None:
        add(self, codes)
        raise KeyboardInterrupt

    monkeypatch.setattr(indexing.CodeIndex, "add", interrupted)
    query, out = found(drawn)[0], tmp_path / "out"
    result = run("neighbours", drawn, "--query", query, "--out", out)
    assert result.exit_code == 130
    assert f"what is done is kept in the index {out / 'index'}" in result.stderr
    monkeypatch.undo()
    assert run("neighbours", drawn, "--query", query, "--out", out).exit_code == 0


def test_without_its_library_the_command_says_what_to_install(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['qdrant_client'] = None\n"
        "from convlens.client.cli._program import program\n"
        "program(['study', 'neighbours', '.', '--query', '.', '--out', 'out'])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert 'pip install "convlens-client[studies]"' in result.stderr
