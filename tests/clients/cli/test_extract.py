"""`convlens extract`: the files that it writes, and how it goes on where it was ended."""

import json
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyarrow import parquet

from convlens.client.testing import FakeServer
from convlens.contract import ErrorReason, Failure
from convlens.v1 import feature_pb2 as pb
from convlens.v1 import tensor_pb2


def answer(request: pb.ExtractFeaturesRequest) -> pb.ExtractFeaturesResponse:
    """Two numbers that tell the picture: what its bytes say, and the number of the layer."""
    [image] = request.images
    if not image.encoded.isdigit():
        raise Failure(ErrorReason.ERROR_REASON_IMAGE_UNREADABLE, detail="no number", formats="x")
    codes: list[pb.LayerCode] = []
    for number, wanted in enumerate(request.layers):
        numbers = np.array([[int(image.encoded)], [number]])
        kind = "<f2" if wanted.dtype == tensor_pb2.DATA_TYPE_FLOAT16 else "<f4"
        dtype = wanted.dtype or tensor_pb2.DATA_TYPE_FLOAT32
        values = tensor_pb2.Tensor(dtype=dtype, shape=[2, 1], data=numbers.astype(kind).tobytes())
        code = pb.LayerCode(layer=wanted.layer, values=values)
        if wanted.pooling == pb.POOLING_MAX:
            data = np.array([[3, 4], [5, 6]], "<i8").tobytes()
            code.positions.CopyFrom(
                tensor_pb2.Tensor(dtype=tensor_pb2.DATA_TYPE_INT64, shape=[2, 2], data=data)
            )
        codes.append(code)
    result = pb.ExtractFeaturesResult(features=pb.Features(codes=codes))
    return pb.ExtractFeaturesResponse(results=[result])


@pytest.fixture
def server():
    with FakeServer({"ExtractFeatures": answer}) as fake:
        yield fake


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Pictures 0 to 39; number 7 is none."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(40):
        content = "none" if number == 7 else str(number)
        (folder / f"{number:02}.png").write_text(content)
    return folder


GOOD = [number for number in range(40) if number != 7]


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


def started(process: Any, partial: Path, lines: int) -> None:
    """Waits until so many pictures are done."""
    journal = partial / "journal.jsonl"
    deadline = time.monotonic() + 30
    while not journal.exists() or journal.read_text().count("\n") < lines:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL], ids=["ctrl-c", "kill"])
@pytest.mark.parametrize("kind", ["npz", "parquet"])
def test_a_run_that_was_ended_goes_on(
    run: Any, spawn: Any, server: FakeServer, folder: Path, tmp_path: Path, end: int, kind: str
) -> None:
    whole, out = tmp_path / f"whole.{kind}", tmp_path / f"codes.{kind}"
    arguments = ("extract", folder, "--layers", "a,b:max", "--out")
    assert run(*arguments, whole).exit_code == 1
    go = threading.Event()

    def slowly(request: pb.ExtractFeaturesRequest) -> pb.ExtractFeaturesResponse:
        if request.images[0].encoded == b"20":
            go.wait(30)
        return answer(request)

    server.answers["ExtractFeatures"] = slowly
    process = spawn(*arguments, out)
    started(process, tmp_path / f"codes.{kind}.partial", 20)
    other = run(*arguments, out)
    assert other.exit_code == 1 and "belongs to a run that is under way" in other.stderr
    process.send_signal(end)
    assert process.wait(30) == (130 if end == signal.SIGINT else -signal.SIGKILL)
    if end == signal.SIGINT:
        assert "20 pictures are kept in" in process.stderr.read()
    go.set()
    before = len(server.requests)
    result = run(*arguments, out)
    assert "convlens: 20 of 40 pictures are done already." in result.stderr
    sent = [request for request in server.requests[before:] if "Extract" in request.rpc]
    assert len(sent) == 20, "what is done is not sent again"
    assert not out.with_name(f"{out.name}.partial").exists()
    if kind == "npz":
        with np.load(out) as found, np.load(whole) as expected:
            assert {name: found[name].tolist() for name in found} == {
                name: expected[name].tolist() for name in expected
            }
    else:
        assert parquet.read_table(out).equals(parquet.read_table(whole))


@pytest.fixture
def partial(run: Any, server: FakeServer, folder: Path, tmp_path: Path) -> Path:
    """What is left of a run that failed after ten pictures."""

    def until_ten(request: pb.ExtractFeaturesRequest) -> pb.ExtractFeaturesResponse:
        if request.images[0].encoded == b"10":
            reason = ErrorReason.ERROR_REASON_NETWORK_NOT_FOUND
            raise Failure(reason, network="pets@1", served="dogs@1")
        return answer(request)

    server.answers["ExtractFeatures"] = until_ten
    result = run("extract", folder, "--layers", "a", "--out", tmp_path / "codes.npz")
    assert result.exit_code == 1 and "pets@1" in result.stderr.splitlines()[-1]
    server.answers["ExtractFeatures"] = answer
    return tmp_path / "codes.npz.partial"


def test_rows_that_were_half_written_are_computed_again(
    run: Any, folder: Path, tmp_path: Path, partial: Path
) -> None:
    with (partial / "0.rows").open("ab") as rows:
        rows.write(b"abc")
    with (partial / "journal.jsonl").open("ab") as journal:
        journal.write(b'{"picture": "10')
    out = tmp_path / "codes.npz"
    assert "10 of 40" in run("extract", folder, "--layers", "a", "--out", out).stderr
    assert np.load(out)["a"][:, 0, 0].tolist() == GOOD


def test_rows_that_were_lost_are_computed_again(
    run: Any, folder: Path, tmp_path: Path, partial: Path
) -> None:
    rows = partial / "0.rows"
    rows.write_bytes(rows.read_bytes()[: 8 * 4 + 3])
    out = tmp_path / "codes.npz"
    assert "4 of 40" in run("extract", folder, "--layers", "a", "--out", out).stderr
    assert np.load(out)["a"][:, 0, 0].tolist() == GOOD


@pytest.mark.parametrize(
    ("change", "arguments", "words"),
    [
        ("", ["--layers", "b"], "is of a run with the layers a."),
        ("", ["--layers", "a", "--half"], "is of a run with other options for these layers."),
        ("touch", ["--layers", "a"], "has other pictures, "),
        ("add", ["--layers", "a"], "has other pictures, "),
        ("remove", ["--layers", "a"], "has more pictures: 10."),
        ("network", ["--layers", "a"], "is of a run with network digest "),
    ],
)
def test_another_run_is_not_mixed_with_it(
    run: Any,
    server: FakeServer,
    folder: Path,
    tmp_path: Path,
    partial: Path,
    change: str,
    arguments: list[str],
    words: str,
) -> None:
    if change == "touch":
        (folder / "03.png").write_text("33")
    elif change == "add":
        (folder / "00a.png").write_text("1")
    elif change == "remove":
        for number in range(5, 40):
            (folder / f"{number:02}.png").unlink()
    elif change == "network":
        from convlens.v1.network_pb2 import GetNetworkResponse, Network

        network = Network(name="pets", version="1", digest="other")
        server.answers["GetNetwork"] = GetNetworkResponse(network=network)
    out = tmp_path / "codes.npz"
    result = run("extract", folder, *arguments, "--out", out)
    assert result.exit_code == 1
    assert words in result.stderr and "begin anew with --overwrite" in result.stderr
    assert partial.exists() and not out.exists()
    if change != "network":
        again = run("extract", folder, *arguments, "--out", out, "--overwrite")
        assert out.exists() and not partial.exists() and "done already" not in again.stderr


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
    refusals = iter(range(3))

    def busy(request: pb.ExtractFeaturesRequest) -> pb.ExtractFeaturesResponse:
        if request.images[0].encoded == b"12" and next(refusals, None) is not None:
            raise Failure(
                ErrorReason.ERROR_REASON_QUEUE_FULL, network="pets@1", pool="x", retry_seconds=0.01
            )
        return answer(request)

    monkeypatch.setattr("convlens.client.cli._extract.PAUSE", 0.01)
    server.answers["ExtractFeatures"] = busy
    out = tmp_path / "codes.npz"
    result = run("extract", folder, "--layers", "a", "--out", out)
    assert np.load(out)["a"][:, 0, 0].tolist() == GOOD
    assert "1 of 40 pictures failed" in result.stderr
    assert next(refusals, None) is None


def test_a_server_that_stays_away_ends_it(
    run: Any, server: FakeServer, folder: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr("convlens.client.cli._extract.PAUSE", 0.01)
    reason = ErrorReason.ERROR_REASON_SERVER_STOPPING
    server.answers["ExtractFeatures"] = Failure(reason)
    result = run("extract", folder, "--layers", "a", "--out", tmp_path / "codes.npz")
    assert result.exit_code == 1 and result.stderr.count("\n") == 1
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
    out = folder / "00.png" / "codes.npz"
    result = run("extract", folder, "--layers", "a", "--out", out)
    assert result.exit_code == 1
    assert "codes.npz.partial cannot be written: Not a directory" in result.stderr
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    result = run("extract", folder, "--layers", "a", "--out", tmp_path / "a.parquet")
    assert result.exit_code == 1
    assert 'needs pyarrow: pip install "convlens-client[parquet]"' in result.stderr
    result = run("extract", tmp_path / "none.txt", "--layers", "a", "--out", tmp_path / "a.npz")
    assert result.exit_code == 1 and "convlens: 1 of 1 pictures failed." in result.stderr
    with np.load(tmp_path / "a.npz") as found:
        assert found["failed"].tolist() == [str(tmp_path / "none.txt")]
