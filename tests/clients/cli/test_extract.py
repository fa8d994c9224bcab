"""`convlens extract`: the files that it writes, and what it says of what it cannot write."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyarrow import parquet

from convlens.client.testing import FakeServer
from convlens.contract import ErrorReason, Failure
from convlens.v1 import feature_pb2 as pb
from tests.clients.cli.extracting import GOOD, answer, photos


@pytest.fixture
def server():
    with FakeServer({"ExtractFeatures": answer}) as fake:
        yield fake


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return photos(tmp_path)


def test_npz(run: Any, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "codes.npz"
    result = run("extract", folder, "--layers", "a,b:max", "--layers", "logits", "--out", out)
    assert result.exit_code == 1
    assert f"{out}: 39 pictures through pets@1" in result.stdout
    assert "  b:max            39 × 2 × 1" in result.stdout.splitlines()
    failed = str(folder / "07.png")
    assert result.stderr.splitlines()[-1] == "convlens: 1 of 40 pictures failed."
    assert f"convlens: {failed}: " in result.stderr
    with np.load(out) as found:
        assert sorted(found) == sorted(
            ["a", "b:max", "b:max.positions", "logits", "pictures", "failed", "errors", "run"]
        )
        assert found["pictures"].tolist() == [str(folder / f"{n:02}.png") for n in GOOD]
        assert found["failed"].tolist() == [failed]
        assert "no number" in found["errors"][0]
        assert found["a"].shape == (39, 2, 1) and found["a"].dtype == np.float32
        assert found["a"][:, 0, 0].tolist() == GOOD
        assert found["logits"][:, 1, 0].tolist() == [2] * 39
        assert found["b:max.positions"].tolist() == [[[3, 4], [5, 6]]] * 39
        described = json.loads(str(found["run"]))
    assert described["network"] == "pets@1"
    assert [layer["pooling"] for layer in described["layers"]] == ["none", "max", "none"]
    assert [path.name for path in tmp_path.iterdir() if "codes" in path.name] == ["codes.npz"]


def test_parquet(run: Any, folder: Path, tmp_path: Path, monkeypatch: Any) -> None:
    # Blocks of three rows: neither pictures nor answers fill the last one.
    monkeypatch.setattr("convlens.client.cli._codes.BLOCK_BYTES", 3 * 40)
    out = tmp_path / "codes.parquet"
    result = run("extract", folder, "--layers", "a,b:max", "--half", "--l2", "--out", out)
    assert result.exit_code == 1
    table = parquet.read_table(out)
    assert table.column_names == ["picture", "error", "a", "b:max", "b:max.positions"]
    rows = table.to_pylist()
    assert [row["picture"] for row in rows] == [str(folder / f"{n:02}.png") for n in range(40)]
    assert rows[7]["a"] is None and rows[7]["b:max.positions"] is None
    assert "no number" in rows[7]["error"]
    assert [row["a"] for row in rows if row["a"]] == [[n, 0] for n in GOOD]
    assert rows[39]["b:max.positions"] == [3, 4, 5, 6] and rows[39]["error"] is None
    kind = table.schema.field("a").type
    assert (str(kind.value_type), kind.list_size) == ("halffloat", 2)
    assert json.loads(table.schema.field("a").metadata[b"shape"]) == [2, 1]
    run_of = json.loads(table.schema.metadata[b"convlens"])
    assert [(each["dtype"], each["l2_normalize"]) for each in run_of["layers"]] == [
        ("float16", True),
        ("float16", True),
    ]


def test_json(run: Any, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "codes.npz"
    result = run("extract", folder, "--layers", "a", "--pooling", "avg", "--out", out, "--json")
    document = json.loads(result.stdout)
    assert (document["out"], document["pictures"]) == (str(out), 39)
    assert document["arrays"] == {"a": [39, 2, 1]}
    [failed] = document["failed"]
    assert failed["picture"] == str(folder / "07.png")
    assert failed["error"]["reason"] == "IMAGE_UNREADABLE"
    assert document["run"]["layers"][0]["pooling"] == "avg"
    assert document["seconds"] > 0


def test_names_that_are_no_text(run: Any, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "a\udcff.png").write_text("1")
    (folder / "ä😀.png").write_text("2")
    for name in ("codes.npz", "codes.parquet"):
        assert run("extract", folder, "--layers", "a", "--out", tmp_path / name).exit_code == 0
    with np.load(tmp_path / "codes.npz") as found:
        assert set(found["pictures"].tolist()) == {str(path) for path in folder.iterdir()}
    names = parquet.read_table(tmp_path / "codes.parquet")["picture"].to_pylist()
    assert str(folder / "ä😀.png") in names and str(folder / "a?.png") in names


def test_a_network_that_is_replaced_meanwhile_ends_the_run(
    run: Any, server: FakeServer, folder: Path, tmp_path: Path
) -> None:
    def other(request: pb.ExtractFeaturesRequest) -> pb.ExtractFeaturesResponse:
        response = answer(request)
        if request.images[0].encoded == b"3":
            response.receipt.network_digest = "other"
        return response

    server.answers["ExtractFeatures"] = other
    result = run("extract", folder, "--layers", "a", "--out", tmp_path / "codes.npz")
    assert result.exit_code == 1
    assert "pets@1 became another network meanwhile" in result.stderr


def test_a_full_server_is_waited_for(
    run: Any, server: FakeServer, folder: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    refusals = iter(range(12))

    def busy(request: pb.ExtractFeaturesRequest) -> pb.ExtractFeaturesResponse:
        if request.images[0].encoded == b"12" and next(refusals, None) is not None:
            raise Failure(
                ErrorReason.ERROR_REASON_QUEUE_FULL, network="pets@1", pool="x", retry_seconds=0.01
            )
        return answer(request)

    monkeypatch.setattr("convlens.client._patience.PAUSE", 0.01)
    monkeypatch.setattr("convlens.client._patience.LONGEST_PAUSE", 0.01)
    server.answers["ExtractFeatures"] = busy
    out = tmp_path / "codes.npz"
    result = run("extract", folder, "--layers", "a", "--out", out)
    assert np.load(out)["a"][:, 0, 0].tolist() == GOOD
    assert "1 of 40 pictures failed" in result.stderr
    assert result.stderr.count("waiting for the server") == 1
    assert next(refusals, None) is None


def test_a_server_that_stays_away_ends_it(
    run: Any, server: FakeServer, folder: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr("convlens.client._patience.PAUSE", 0.01)
    monkeypatch.setattr("convlens.client._patience.PATIENCE", 0.1)
    reason = ErrorReason.ERROR_REASON_SERVER_STOPPING
    server.answers["ExtractFeatures"] = Failure(reason)
    result = run("extract", folder, "--layers", "a", "--out", tmp_path / "codes.npz")
    assert result.exit_code == 1
    waiting, ended = result.stderr.splitlines()
    assert waiting.startswith("convlens: waiting for the server: ") and "stopping" in ended
    assert not (tmp_path / "codes.npz.partial").exists(), "nothing is done, so nothing is kept"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--layers", "a:mean"], "has 'a:mean'; a pooling must be one of none, avg, max, flatten"),
        (["--layers", "a,a"], "--layers has 'a' twice"),
        (["--layers", "a,,b"], "--layers has an empty name"),
        (["--layers", "errors"], "write errors:none, or another pooling"),
        (["--layers", "a", "--pooling", "sum"], "'sum' is not one of 'none', 'avg', 'max'"),
        ([], "Missing option '--layers'"),
    ],
)
def test_wrong_use(run: Any, folder: Path, tmp_path: Path, arguments: Any, words: str) -> None:
    result = run("extract", folder, *arguments, "--out", tmp_path / "codes.npz")
    assert result.exit_code == 2
    assert words in result.stderr and result.stderr.count("\n") == 1


def test_files_that_cannot_be_written(
    run: Any, folder: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    out = tmp_path / "codes.csv"
    result = run("extract", folder, "--layers", "a", "--out", out)
    assert result.exit_code == 2 and "it must end in .npz or .parquet" in result.stderr
    out = tmp_path / "codes.npz"
    out.touch()
    result = run("extract", folder, "--layers", "a", "--out", out)
    assert result.exit_code == 1 and "is there already" in result.stderr
    for parent in (folder / "00.png", tmp_path / "typo" / "deep"):
        result = run("extract", folder, "--layers", "a", "--out", parent / "codes.npz")
        assert result.exit_code == 1
        assert f"codes.npz cannot be written: there is no folder {parent}." in result.stderr
    assert not (tmp_path / "typo").exists()
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    result = run("extract", folder, "--layers", "a", "--out", tmp_path / "a.parquet")
    assert result.exit_code == 1
    assert 'needs pyarrow: pip install "convlens-client[parquet]"' in result.stderr


def test_nothing_that_is_there(run: Any, tmp_path: Path) -> None:
    missing, out = tmp_path / "photso", tmp_path / "codes.npz"
    result = run("extract", missing, "--layers", "a", "--out", out)
    assert result.exit_code == 1 and f"There is no {missing}." in result.stderr
    assert not list(tmp_path.iterdir())


def test_no_picture_that_was_answered(run: Any, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("none")
    (tmp_path / "b.png").write_text("none")
    arguments = ("extract", tmp_path, tmp_path / "c", "--layers", "a", "--out")
    result = run(*arguments, tmp_path / "codes.npz")
    assert result.exit_code == 1 and not result.stdout
    assert "3 of 3 pictures failed; nothing is written." in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.png"]
    document = json.loads(run(*arguments, tmp_path / "codes.npz", "--json").stdout)
    assert document["out"] is None and len(document["failed"]) == 3
