"""How `convlens extract` goes on where it was ended, and what it makes of what it finds."""

import os
import resource
import signal
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
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


def started(process: Any, partial: Path, lines: int) -> None:
    """Waits until so many pictures are done."""
    journal = partial / "journal.jsonl"
    deadline = time.monotonic() + 30
    while not journal.exists() or journal.read_text().count("\n") < lines:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)


def call_of(request: Any) -> str:
    """The id of the call that a message belongs to."""
    return request.metadata["x-request-id"]


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
    # What the ended run had sent may be read only now.
    before = {call_of(request) for request in server.requests}
    result = run(*arguments, out)
    assert "convlens: 20 of 40 pictures are done already." in result.stderr
    new = [request for request in server.requests if call_of(request) not in before]
    sent = [request for request in new if "Extract" in request.rpc]
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
    said = run("extract", folder, "--layers", "a", "--out", out).stderr
    assert "6 pictures are computed again, as their codes are damaged" in said
    assert "4 of 40" in said
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


def test_pictures_that_failed_by_no_fault_of_their_own_are_tried_once_more(
    run: Any, server: FakeServer, folder: Path, tmp_path: Path
) -> None:
    asked: list[bytes] = []

    def ended(end: bytes, failing: set[bytes]) -> Any:
        def say(request: pb.ExtractFeaturesRequest) -> pb.ExtractFeaturesResponse:
            content = request.images[0].encoded
            asked.append(content)
            if content == end:
                reason = ErrorReason.ERROR_REASON_NETWORK_NOT_FOUND
                raise Failure(reason, network="pets@1", served="dogs@1")
            if content in failing:
                raise Failure(ErrorReason.ERROR_REASON_INTERNAL, request_id="x")
            return answer(request)

        return say

    arguments = ("extract", folder, "--layers", "a", "--out", tmp_path / "codes.npz")
    server.answers["ExtractFeatures"] = ended(b"10", {b"3", b"5"})
    assert run(*arguments).exit_code == 1
    server.answers["ExtractFeatures"] = ended(b"20", {b"3"})
    said = run(*arguments).stderr
    assert "7 pictures are computed again, as one failed by no fault of its own" in said
    assert "3 of 40 pictures are done already" in said
    asked.clear()
    server.answers["ExtractFeatures"] = ended(b"", set())
    said = run(*arguments).stderr
    assert "computed again" not in said and "20 of 40 pictures are done already" in said
    assert b"3" not in asked, "twice is enough"
    with np.load(tmp_path / "codes.npz") as found:
        assert found["a"][:, 0, 0].tolist() == [number for number in GOOD if number != 3]
        assert len(found["failed"]) == 2


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("plan.json", ""),
        ("plan.json", "{"),
        ("plan.json", "[]"),
        ("forms.json", ""),
        ("forms.json", '[{"name": "a"}]'),
        ("0.rows", None),
    ],
)
def test_a_damaged_folder(
    run: Any, folder: Path, tmp_path: Path, partial: Path, name: str, content: str | None
) -> None:
    if content is None:
        (partial / name).unlink()
    else:
        (partial / name).write_text(content)
    arguments = ("extract", folder, "--layers", "a", "--out", tmp_path / "codes.npz")
    said = run(*arguments).stderr
    assert f"{partial} is damaged. Choose another --out, or begin anew with --overwrite." in said
    run(*arguments, "--overwrite")
    assert np.load(tmp_path / "codes.npz")["a"][:, 0, 0].tolist() == GOOD
    assert not partial.exists()


def test_rows_without_their_form_are_not_taken_for_others(
    run: Any, folder: Path, tmp_path: Path, partial: Path
) -> None:
    (partial / "forms.json").unlink()
    out = tmp_path / "codes.npz"
    said = run("extract", folder, "--layers", "a", "--out", out).stderr
    assert "10 pictures are computed again" in said
    assert np.load(out)["a"][:, 0, 0].tolist() == GOOD


def test_a_damaged_line_says_what_it_costs(
    run: Any, folder: Path, tmp_path: Path, partial: Path
) -> None:
    journal = partial / "journal.jsonl"
    lines = journal.read_text().splitlines(keepends=True)
    lines[4] = "garbage\n"
    journal.write_text("".join(lines))
    out = tmp_path / "codes.npz"
    said = run("extract", folder, "--layers", "a", "--out", out).stderr
    assert "6 pictures are computed again, as their codes are damaged" in said
    assert np.load(out)["a"][:, 0, 0].tolist() == GOOD


@pytest.mark.parametrize(
    "files",
    [["thesis.txt"], ["plan.json"], ["plan.json", "lock", "thesis.txt"], ["0.rows"]],
    ids=" ".join,
)
@pytest.mark.parametrize("overwrite", [[], ["--overwrite"]], ids=["plain", "overwrite"])
def test_a_folder_of_somebody_else_is_left_alone(
    run: Any, folder: Path, tmp_path: Path, files: list[str], overwrite: list[str]
) -> None:
    partial = tmp_path / "codes.npz.partial"
    partial.mkdir()
    for name in files:
        (partial / name).write_text('{"mine": 1}')
    out = tmp_path / "codes.npz"
    result = run("extract", folder, "--layers", "a", "--out", out, *overwrite)
    assert result.exit_code == 1 and not out.exists()
    assert f"{partial} is not of this command. Choose another --out, or move" in result.stderr
    assert sorted(os.listdir(partial)) == sorted(files)
    assert {path.read_text() for path in partial.iterdir()} == {'{"mine": 1}'}


def test_what_lies_beside_is_kept(run: Any, folder: Path, tmp_path: Path, partial: Path) -> None:
    (partial / "notes.txt").write_text("mine")
    out = tmp_path / "codes.npz"
    run("extract", folder, "--layers", "a", "--out", out)
    assert out.exists() and os.listdir(partial) == ["notes.txt"]


def test_a_run_that_was_ended_in_its_first_moment(run: Any, folder: Path, tmp_path: Path) -> None:
    partial = tmp_path / "codes.npz.partial"
    partial.mkdir()
    (partial / "lock").touch()
    (partial / "plan.new").write_text("{")
    out = tmp_path / "codes.npz"
    run("extract", folder, "--layers", "a", "--out", out)
    assert out.exists() and not partial.exists()


def test_a_run_that_was_ended_in_its_last_moment(
    run: Any, folder: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    arguments = ("extract", folder, "--layers", "a", "--out", tmp_path / "codes.npz")
    with monkeypatch.context() as patch:
        patch.setattr("convlens.client._spool.Spool.remove", lambda spool: spool._end())
        run(*arguments)
    partial = tmp_path / "codes.npz.partial"
    assert (partial / "journal.jsonl").exists()
    assert "is there already" in run(*arguments).stderr
    assert not partial.exists()


def test_a_run_that_is_not_finished_is_kept_beside_an_older_file(
    run: Any, folder: Path, tmp_path: Path, partial: Path
) -> None:
    (tmp_path / "codes.npz").touch()
    said = run("extract", folder, "--layers", "a", "--out", tmp_path / "codes.npz").stderr
    assert "is there already" in said and (partial / "journal.jsonl").exists()


@contextmanager
def limited(size: int) -> Generator[None, None, None]:
    """Files of processes that start now grow to so many bytes and no further."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk(run: Any, spawn: Any, folder: Path, tmp_path: Path) -> None:
    command = ("extract", folder, "--layers", "a", "--out", tmp_path / "codes.npz")
    with limited(2000):
        process = spawn(*command)
    assert process.wait(30) == 1
    kept, ended = process.stderr.read().splitlines()[-2:]
    partial = tmp_path / "codes.npz.partial"
    assert f"pictures are kept in {partial}; the same command goes on from there" in kept
    assert "journal.jsonl cannot be written: File too large. Make room for it" in ended
    run(*command)
    assert np.load(tmp_path / "codes.npz")["a"][:, 0, 0].tolist() == GOOD
