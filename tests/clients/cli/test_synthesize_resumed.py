"""`convlens synthesize` that ends before it is done, and goes on."""

import io
import json
import re
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from convlens.client._fake_synthesis import synthesize
from convlens.client.testing import FakeServer
from convlens.contract import ErrorReason, Failure
from tests.clients.cli.synthesizing import CAT, FOOL, ended, names, pixels, question, slow
from tests.clients.streaming import breaking

INVERT = ("synthesize", "invert", "--layer", "avgpool")


def test_it_goes_on_from_its_checkpoint(run: Any, server: FakeServer, tmp_path: Path) -> None:
    out, file = tmp_path / "cat.png", tmp_path / "cat.run"
    kept = ("--out", out, "--checkpoint", file)
    assert run(*CAT, *kept, "--steps", "40").exit_code == 0
    checkpoint = file.read_bytes()
    assert json.loads(checkpoint)["step"] == 40
    assert run(*CAT, *kept, "--steps", "60").exit_code == 0
    assert question(server).checkpoint == checkpoint
    assert json.loads(file.read_bytes())["step"] == 60
    whole = tmp_path / "whole.png"
    run(*CAT, "--out", whole, "--steps", "60")
    assert out.read_bytes() == whole.read_bytes()


def test_a_checkpoint_that_does_not_fit(run: Any, server: FakeServer, tmp_path: Path) -> None:
    out, file = tmp_path / "cat.png", tmp_path / "cat.run"
    kept = ("--out", out, "--checkpoint", file)
    run(*CAT, *kept, "--steps", "5")
    before, picture = file.read_bytes(), out.read_bytes()
    other = run("synthesize", "class-model", "--target", "dog", *kept)
    assert other.exit_code == 1
    assert other.stderr == (
        f"convlens: {file} is that of another question; send none to begin anew. Give "
        "--checkpoint another name, or remove the file to begin anew.\n"
    )
    assert (file.read_bytes(), out.read_bytes()) == (before, picture)
    file.write_bytes(before[:-9])
    result = run(*CAT, *kept)
    assert result.exit_code == 1 and f"{file} is none, or is damaged" in result.stderr
    file.write_bytes(b"")
    result = run(*CAT, *kept)
    assert result.exit_code == 1 and f"{file} is empty, and no checkpoint" in result.stderr


def test_a_server_that_stops_is_waited_for(run: Any, server: FakeServer, tmp_path: Path) -> None:
    run(*CAT, "--out", tmp_path / "whole.png", "--steps", "40")
    server.answers["Synthesize"] = breaking(synthesize, 30)
    again = ("--out", tmp_path / "broken.png", "--steps", "40", "--preview-every", "8")
    result = run(*CAT, *again)
    assert result.exit_code == 0
    assert "The server is stopping" in result.stderr and "Trying again." in result.stderr
    checkpoints = [request.message.checkpoint for request in server.requests[1:]]
    assert not checkpoints[0] and json.loads(checkpoints[1])["step"] == 24
    assert (tmp_path / "broken.png").read_bytes() == (tmp_path / "whole.png").read_bytes()


def test_no_server_is_one_line_at_once(run: Any, tmp_path: Path) -> None:
    started = time.monotonic()
    result = run(*CAT, "--out", tmp_path / "a.png", "--server", "127.0.0.1:1")
    assert time.monotonic() - started < 5
    assert result.exit_code == 1 and "No server answers" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_an_error_leaves_the_last_preview(run: Any, server: FakeServer, tmp_path: Path) -> None:
    internal = Failure(ErrorReason.ERROR_REASON_INTERNAL, request_id="42")
    server.answers["Synthesize"] = breaking(synthesize, 30, internal)
    out, gif, file = (tmp_path / f"f.{kind}" for kind in ("png", "gif", "run"))
    asked = (*FOOL, "--out", out, "--gif", gif, "--checkpoint", file, "--preview-every", "8")
    result = run(*asked, "--steps", "40")
    assert result.exit_code == 1
    note, error = result.stderr.splitlines()
    assert note == (
        f"convlens: note: stopped after step 24; what there is so far is in {out} and {gif}; the "
        f"same command goes on from {file}."
    )
    assert "42" in error
    assert names(tmp_path) == ["f-1.png", "f-2.png", "f.gif", "f.png", "f.run"]
    assert run(*asked, "--steps", "40").exit_code == 0, "what is there is this run's own"
    assert json.loads(file.read_bytes())["step"] == 40


def test_the_end_of_its_time_leaves_the_last_preview(
    run: Any, server: FakeServer, tmp_path: Path
) -> None:
    server.answers["Synthesize"] = slow()
    out = tmp_path / "cat.png"
    result = run(*CAT, "--out", out, "--preview-every", "4", "--timeout", "1")
    assert (result.exit_code, result.stdout) == (1, "")
    note, error = result.stderr.splitlines()
    assert re.match(r"convlens: note: stopped after step \d+; what there is so far is in ", note)
    assert "time" in error
    assert pixels(out).shape == (32, 32, 3)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (CAT, "the picture is the latest one"),
        (("synthesize", "unit", "--layer", "avgpool", "--map", 1), "the picture is the latest one"),
        (INVERT, "each picture is the one of the lowest loss so far"),
        (FOOL, "each picture is the latest one, or the end of an earlier climb that was surer"),
        ((*FOOL, "--by", "direct"), "each picture is the best one of its class so far"),
        ((*FOOL, "--by", "cppn"), "each picture is the best one of its class so far"),
    ],
)
def test_which_picture_there_is_when_the_time_is_over_is_said(
    run: Any, server: FakeServer, photo: Path, tmp_path: Path, asked: tuple[Any, ...], words: str
) -> None:
    server.answers["Synthesize"] = ended
    source = (photo,) if asked == INVERT else ()
    result = run(*asked, *source, "--out", tmp_path / "a.png", "--allow-partial")
    assert result.exit_code == 0
    first = result.stderr.splitlines()[0]
    assert first == f"convlens: note: the time was over before all steps were done; {words}."


def test_ctrl_c_leaves_the_last_preview(spawn: Any, server: FakeServer, tmp_path: Path) -> None:
    asked = threading.Event()
    server.answers["Synthesize"] = slow(asked)
    out, file = tmp_path / "cat.png", tmp_path / "cat.run"
    process = spawn(
        *(*CAT, "--out", out, "--checkpoint", file, "--preview-every", "4", "--steps", "5000")
    )
    assert asked.wait(20)
    while not out.exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=20)
    assert (process.returncode, output) == (130, "")
    note, last = filter(None, errors.splitlines())
    step = json.loads(file.read_bytes())["step"]
    assert note.startswith(f"convlens: note: stopped after step {step}; what there is so far is in")
    assert note.endswith(f"; the same command goes on from {file}.")
    assert last == "convlens: interrupted"
    with Image.open(io.BytesIO(out.read_bytes())) as picture:
        assert picture.size == (32, 32)


def test_a_bar_on_a_terminal(
    spawn: Any, terminal: Any, server: FakeServer, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    server.answers["Synthesize"] = slow()
    theirs, written, finish = terminal
    out = tmp_path / "cat.png"
    process = spawn(*CAT, "--steps", "100", "--out", out, stdout=theirs, stderr=theirs)
    assert process.wait(30) == 0
    finish()
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "\n", b"".join(written).decode())
    assert re.search(r"class-model score \d\.\d+, \d+\.\d %", text)
    assert re.search(r"\d+/100", text)
