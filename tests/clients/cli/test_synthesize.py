"""`convlens synthesize`: what it asks, prints and writes, and how it goes on."""

import io
import json
import re
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from convlens.client import Client, methods
from convlens.client._fake_synthesis import synthesize
from convlens.client.cli import _synthesis_files
from convlens.client.methods import Target
from convlens.client.testing import FakeServer
from convlens.contract import ErrorReason, Failure
from convlens.v1 import synthesis_pb2 as pb

STOPPING = Failure(ErrorReason.ERROR_REASON_SERVER_STOPPING, retry_after=0.01)
CAT = ("synthesize", "class-model", "--target", "cat")
FOOL = ("synthesize", "fool")


def question(server: FakeServer) -> pb.SynthesizeRequest:
    """The last request."""
    return server.requests[-1].message


def pixels(path: Path) -> Any:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_picture_is_made(run: Any, server: FakeServer, tmp_path: Path) -> None:
    out = tmp_path / "cat.png"
    result = run(*CAT, "--out", out, "--steps", "600")
    assert (result.exit_code, result.stderr) == (0, "")
    head, row, last = result.stdout.splitlines()
    assert head.split() == ["made", "for", "answer", "as", "png", "steps", "file"]
    assert row.split() == [*("cat", "cat", "100.0", "%", "cat", "100.0", "%", "600", "cat.png")]
    assert re.fullmatch(
        r"pets@1: (\d+) of \1 forward and (\d+) of \2 backward passes, \d+\.\d s", last
    )
    assert names(tmp_path) == ["cat.png"]
    with Client(server.address) as client:
        made = client.synthesize_to_end(methods.ClassModel(steps=600), target="cat").pictures[0]
    assert out.read_bytes() == made.png


def test_what_is_left_out_is_left_to_the_server(
    run: Any, server: FakeServer, tmp_path: Path
) -> None:
    run(*CAT, "--out", tmp_path / "cat.png")
    bare = methods.ClassModel(target=Target(label="cat"))
    assert question(server) == pb.SynthesizeRequest(
        method=methods.SynthesisMethod(class_model=bare)
    )


def test_what_is_asked(run: Any, server: FakeServer, tmp_path: Path) -> None:
    result = run(
        *("synthesize", "class-model", "--target", "1", "--out", tmp_path / "dog.png"),
        *("--steps", "20", "--canvas", "24x16", "--seed", "9", "--timeout", "9"),
        *("--allow-partial", "--network", "pets", "--preview-every", "5"),
        *("--set", "parametrization=fourier,decorrelate-colors,jitter=4"),
        *("--set", "start=noise", "--set", "l2-weight=1/8, total_variation=0.5"),
    )
    assert (result.exit_code, result.stderr) == (0, "")
    method = methods.ClassModel(
        target=Target(class_index=1),
        steps=20,
        l2_weight=0.125,
        start=methods.CanvasStart.Value("CANVAS_START_NOISE"),
        priors=methods.Priors(
            parametrization=methods.Parametrization.Value("PARAMETRIZATION_FOURIER"),
            decorrelate_colors=True,
            jitter=4,
            total_variation=0.5,
        ),
    )
    assert question(server) == pb.SynthesizeRequest(
        network="pets",
        method=methods.SynthesisMethod(class_model=method),
        canvas=pb.Canvas(height=24, width=16),
        preview_every=5,
        seed=9,
        allow_partial=True,
    )
    assert server.requests[0].timeout == pytest.approx(9, abs=1)
    assert pixels(tmp_path / "dog.png").shape == (24, 16, 3)


def test_a_unit(run: Any, server: FakeServer, tmp_path: Path) -> None:
    asked = ("synthesize", "unit", "--layer", "avgpool", "--out", tmp_path / "unit.png")
    result = run(*asked, "--map", "3", "--row", "0", "--column", "2", "--steps", "9")
    assert result.exit_code == 0
    head, row, _ = result.stdout.splitlines()
    assert head.split() == ["answer", "as", "png", "activation", "steps", "file"]
    assert row.split()[-3:] == ["1.31", "9", "unit.png"]
    unit = methods.FeatureUnit(map=3, position=methods.Position(row=0, column=2))
    assert question(server).method.unit_maximization == methods.UnitMaximization(
        layer="avgpool", unit=unit, steps=9
    )
    run(*asked, "--map", "0", "--overwrite")
    assert question(server).method.unit_maximization.unit == methods.FeatureUnit()
    np.save(tmp_path / "direction.npy", np.arange(3))
    assert run(*asked, "--direction", tmp_path / "direction.npy", "--overwrite").exit_code == 0
    sent = question(server).method.unit_maximization.direction
    assert np.frombuffer(sent.data, "<f4").tolist() == [0, 1, 2]


def test_several_reconstructions(run: Any, server: FakeServer, photo: Path, tmp_path: Path) -> None:
    out = tmp_path / "made" / "back.png"
    out.parent.mkdir()
    result = run(
        *("synthesize", "invert", photo, "--layer", "avgpool", "--reconstructions", "3"),
        *("--out", out, "--steps", "40"),
    )
    assert (result.exit_code, result.stderr) == (0, "")
    head, *rows, _, last = result.stdout.splitlines()
    assert head.split() == ["answer", "as", "png", "distance", "PSNR", "steps", "file"]
    assert [row.split()[-1] for row in rows] == ["back-1.png", "back-2.png", "back-3.png"]
    assert last == f"all of them are in {out}"
    assert names(out.parent) == ["back-1.png", "back-2.png", "back-3.png", "back.png"]
    assert pixels(out).shape == (2 * 128 + 2, 2 * 128 + 2, 3)
    inversion = question(server).method.inversion
    assert (inversion.image.encoded, inversion.reconstructions) == (b"a picture", 3)


def test_a_code(run: Any, server: FakeServer, tmp_path: Path) -> None:
    np.save(tmp_path / "code.npy", np.ones(4))
    asked = ("synthesize", "invert", "--layer", "log-probabilities", "--out", tmp_path / "a.png")
    result = run(*asked, "--code", tmp_path / "code.npy", "--steps", "3")
    assert result.exit_code == 0 and "PSNR" not in result.stdout
    assert question(server).method.inversion.code.shape == [4]
    (tmp_path / "code.npy").write_bytes(b"nothing")
    result = run(*asked, "--code", tmp_path / "code.npy")
    assert result.exit_code == 1 and "code.npy is no .npy file with numbers." in result.stderr
    result = run(*asked, "--code", tmp_path / "gone.npy")
    assert result.exit_code == 1 and "There is no file" in result.stderr


@pytest.mark.parametrize(
    ("by", "encoding"),
    [
        ([], {"gradient": methods.FoolingGradient()}),
        (["--by", "direct"], {"direct": methods.FoolingDirect(evaluations=200)}),
        (["--by", "cppn"], {"cppn": methods.FoolingCppn(evaluations=200, max_nodes=9)}),
    ],
)
def test_fooling_images(
    run: Any, server: FakeServer, tmp_path: Path, by: list[str], encoding: dict[str, Any]
) -> None:
    settings = {"direct": "evaluations=200", "cppn": "evaluations=200,max-nodes=9"}
    given = settings.get(next(iter(encoding)), "confidence=0.5")
    out = tmp_path / "fooled.png"
    result = run(*FOOL, *by, "--out", out, "--set", given, "--preview-every", "1")
    assert result.exit_code == 0
    fooling = question(server).method.fooling
    assert getattr(fooling, next(iter(encoding))) == next(iter(encoding.values()))
    assert names(tmp_path) == ["fooled-1.png", "fooled-2.png", "fooled.png"]
    if by:
        assert "note: 2 of 2 pictures did not reach the wanted confidence" in result.stderr
    else:
        assert result.stderr == ""


def test_fooling_of_some_classes(run: Any, server: FakeServer, tmp_path: Path) -> None:
    run(*FOOL, "--target", "dog", "--target", "0", "--out", tmp_path / "a.png", "--steps", "2")
    targets = question(server).method.fooling.targets
    assert list(targets) == [Target(label="dog"), Target(class_index=0)]


def frames(path: Path) -> list[tuple[int, Any]]:
    """How long each frame stays, in milliseconds, and its pixels."""
    found: list[tuple[int, Any]] = []
    with Image.open(path) as image:
        for number in range(getattr(image, "n_frames", 1)):
            image.seek(number)
            found.append((image.info["duration"], np.asarray(image.convert("RGB"))))
    return found


def test_the_growth(run: Any, tmp_path: Path) -> None:
    gif = tmp_path / "cat.gif"
    result = run(*CAT, "--gif", gif, "--steps", "100", "--preview-every", "25", "--canvas", "140")
    assert result.exit_code == 0 and names(tmp_path) == ["cat.gif"]
    assert result.stdout.splitlines()[-1] == f"growth: {gif}"
    found = frames(gif)
    assert 4 <= len(found) <= 5
    assert [stays for stays, _ in found][:3] == [100] * 3 and found[-1][0] >= 2000
    assert all(picture.shape == (140, 140, 3) for _, picture in found)
    noise = [picture[:20].std() for _, picture in found]
    assert noise == sorted(noise, reverse=True) and noise[0] > 2 * noise[-1]


def test_a_long_growth_keeps_its_last_frame(run: Any, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(_synthesis_files, "MOST_FRAMES", 6)
    gif, out = tmp_path / "cat.gif", tmp_path / "cat.png"
    run(*CAT, "--gif", gif, "--out", out, "--steps", "40", "--preview-every", "1", "--canvas", 128)
    found = frames(gif)
    assert 3 <= len(found) <= 8
    assert np.abs(found[-1][1].astype(int) - pixels(out)).mean() < 16
    assert np.abs(found[0][1].astype(int) - pixels(out)).mean() > 24


def test_a_document(run: Any, server: FakeServer, tmp_path: Path) -> None:
    out, gif = tmp_path / "fooled.png", tmp_path / "fooled.gif"
    result = run(*FOOL, "--out", out, "--gif", gif, "--steps", "3", "--json")
    assert result.exit_code == 0
    document = json.loads(result.stdout)
    assert (document["format"], document["command"]) == ("convlens synthesize, 1", "fool")
    assert document["network"] == "pets@1" and document["is_partial"] is False
    assert document["files"] == {"out": str(out), "gif": str(gif), "checkpoint": None}
    first, second = document["pictures"]
    assert (first["target"]["label"], second["prediction"]["label"]) == ("cat", "dog")
    assert first["confident"] is False and first["psnr"] is None and first["steps"] == 3
    assert first["file"] == str(tmp_path / "fooled-1.png")
    assert set(first["arrays"]) == {"png", "pixels"}
    assert document["receipt"]["parameters"]["@type"].endswith("SynthesizeRequest")
    again = json.loads(run(*FOOL, "--out", out, "--steps", "3", "--json", "--overwrite").stdout)
    assert again["pictures"] == document["pictures"]


def test_the_estimate(run: Any, server: FakeServer) -> None:
    result = run(*FOOL, "--steps", "10", "--estimate")
    found = re.fullmatch(r"at most (\d+) forward and (\d+) backward passes\n", result.stdout)
    assert found and question(server).estimate_only
    document = json.loads(run(*FOOL, "--steps", "10", "--estimate", "--json").stdout)
    passes = [int(number) for number in found.groups()]
    assert list(document["estimated_cost"].values()) == passes and min(passes) >= 20


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["class-model"], "Missing option '--target'"),
        ([*CAT[1:]], "Missing option '--out'; nothing would be left"),
        ([*CAT[1:], "--out", "cat.jpg"], "--out is 'cat.jpg'; it must end in .png"),
        ([*CAT[1:], "--gif", "cat.png"], "--gif is 'cat.png'; it must end in .gif"),
        ([*CAT[1:], "--set", "jiter=3"], "there is no parameter of class model 'jiter'; did you"),
        ([*CAT[1:], "--set", "jitter"], "jitter has no value; write jitter=VALUE"),
        ([*CAT[1:], "--set", "l2-weight=-1"], "l2-weight is -1; must be at least 0"),
        ([*CAT[1:], "--set", "jitter=99,scale=2"], "jitter is 99; must be at least 0 and at most"),
        ([*CAT[1:], "--set", "steps=2", "--steps", "3"], "steps is there twice; give it once"),
        ([*CAT[1:], "--steps", "1000000"], "steps is 1"),
        ([*CAT[1:], "--steps", "-1"], "steps is -1; must be at least 1"),
        ([*CAT[1:], "--canvas", "4096"], "height is 4096; must be at least 8 and at most 1024"),
        ([*CAT[1:], "--canvas", "12x"], "'12x' is no size; write HEIGHTxWIDTH"),
        ([*CAT[1:], "--canvas", "99999999999"], "--canvas is 99999999999x99999999999"),
        (["unit", "--map", "1"], "Missing option '--layer'"),
        (["unit", "--layer", "a"], "Give either --map or --direction."),
        (["unit", "--layer", "a", "--map", "1", "--row", "1"], "--row and --column go together"),
        (["unit", "--layer", "", "--map", "1"], "layer must not be empty"),
        (["invert", "--layer", "a"], "Missing argument 'PHOTO', or option '--code'"),
        (["invert", "a.png"], "Missing option '--layer'"),
        (["invert", "a.png", "--code", "b.npy"], "exclude each other"),
        (["fool", "--by", "magic"], "'magic' is not one of 'gradient', 'direct', 'cppn'"),
        (["fool", "--by", "cppn", "--steps", "3"], "no parameter of fooling images 'steps'"),
        (["fool", "--set", "confidence=1"], "confidence is 1; must be greater than 0 and less"),
        (["fool", "--target", "rank:0"], "rank is 0"),
        (["unti"], "Commands are: class-model, fool, invert, unit."),
    ],
)
def test_wrong_usage(run: Any, server: FakeServer, given: list[str], said: str) -> None:
    result = run("synthesize", *given)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr and len(result.stderr.splitlines()) == 1
    assert server.requests == []


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["class-model", "--target", "newt"], "there are 0 to 1: cat, dog"),
        (["class-model", "--target", "2"], "there are 0 to 1: cat, dog"),
        (["unit", "--layer", "conv9", "--map", "1"], "has no layer conv9; the nearest are: avgp"),
        (["invert", "gone.png", "--layer", "avgpool"], "There is no file 'gone.png'"),
        ([*CAT[1:], "--network", "zoo"], "No network zoo is served; served are: pets@1."),
    ],
)
def test_what_there_is_not(run: Any, tmp_path: Path, given: list[str], said: str) -> None:
    result = run("synthesize", *given, "--out", tmp_path / "a.png")
    assert (result.exit_code, result.stdout) == (1, "")
    assert said in result.stderr and len(result.stderr.splitlines()) == 1
    assert names(tmp_path) == []


def test_an_empty_photo(run: Any, tmp_path: Path) -> None:
    (tmp_path / "empty.png").write_bytes(b"")
    asked = ("synthesize", "invert", tmp_path / "empty.png", "--layer", "avgpool")
    result = run(*asked, "--out", tmp_path / "a.png")
    assert result.exit_code == 1 and "The image is empty" in result.stderr


def test_files_that_cannot_be_written(run: Any, server: FakeServer, tmp_path: Path) -> None:
    for option, name in (("--out", "a.png"), ("--gif", "a.gif"), ("--checkpoint", "a.run")):
        nowhere = ("--out", tmp_path / "b.png", option, tmp_path / "gone" / name)
        result = run(*CAT, *nowhere)
        assert result.exit_code == 1 and "there is no folder" in result.stderr
        (tmp_path / name).mkdir()
        result = run(*CAT, "--out", tmp_path / "b.png", option, tmp_path / name)
        assert result.exit_code == 1 and "it is a folder" in result.stderr
    assert server.requests == []


def test_files_that_are_there(run: Any, server: FakeServer, tmp_path: Path) -> None:
    out = tmp_path / "a.png"
    out.write_bytes(b"mine")
    result = run(*CAT, "--out", out)
    assert result.exit_code == 1 and "is there already; choose another name" in result.stderr
    assert out.read_bytes() == b"mine" and server.requests == []
    assert run(*CAT, "--out", out, "--overwrite", "--steps", "3").exit_code == 0
    (tmp_path / "b-2.png").write_bytes(b"mine")
    result = run(*FOOL, "--out", tmp_path / "b.png", "--steps", "99")
    assert result.exit_code == 1 and "b-2.png is there already" in result.stderr
    assert names(tmp_path) == ["a.png", "b-2.png"]


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


def breaking(after: int, error: Failure) -> Any:
    """A server that fails after so many messages, once."""
    calls: list[int] = []

    def answer(request: Any) -> Iterator[pb.SynthesizeResponse]:
        calls.append(1)
        for number, response in enumerate(synthesize(request)):
            if len(calls) == 1 and number == after:
                raise error
            yield response

    return answer


def test_a_server_that_stops_is_waited_for(run: Any, server: FakeServer, tmp_path: Path) -> None:
    run(*CAT, "--out", tmp_path / "whole.png", "--steps", "40")
    server.answers["Synthesize"] = breaking(30, STOPPING)
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
    server.answers["Synthesize"] = breaking(30, internal)
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


def slow(asked: threading.Event | None = None) -> Any:
    def answer(request: Any) -> Iterator[pb.SynthesizeResponse]:
        for response in synthesize(request):
            time.sleep(0.01)
            yield response
            if asked and response.HasField("preview"):
                asked.set()

    return answer


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


def test_the_best_so_far_is_said_to_be_that(run: Any, server: FakeServer, tmp_path: Path) -> None:
    def partial(request: Any) -> Iterator[pb.SynthesizeResponse]:
        for response in synthesize(request):
            if response.HasField("done"):
                response.done.is_partial = True
            yield response

    server.answers["Synthesize"] = partial
    result = run(*CAT, "--out", tmp_path / "a.png", "--steps", "7", "--allow-partial")
    assert result.exit_code == 0
    assert result.stderr == (
        "convlens: note: the time was over after step 7; the pictures are the best so far.\n"
    )


def test_pictures_that_are_not_there(run: Any, server: FakeServer, tmp_path: Path) -> None:
    def partial(request: Any) -> Iterator[pb.SynthesizeResponse]:
        for response in synthesize(request):
            if response.HasField("done"):
                response.done.pictures[0].CopyFrom(pb.SynthesizedPicture())
                response.done.pictures[1].ClearField("prediction")
                response.done.pictures[1].ClearField("rounded_prediction")
            yield response

    server.answers["Synthesize"] = partial
    asked = (*FOOL, "--out", tmp_path / "a.png", "--steps", "7", "--overwrite")
    result = run(*asked)
    assert result.exit_code == 0 and names(tmp_path) == ["a-2.png", "a.png"]
    first, second = (row.split() for row in result.stdout.splitlines()[1:3])
    assert first == ["–", "–", "–", "0", "–"] and second == ["dog", "–", "–", "7", "a-2.png"]
    empty = json.loads(run(*asked, "--json").stdout)["pictures"][0]
    assert empty["file"] is empty["prediction"] is None


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


def test_help_teaches(run: Any, server: FakeServer) -> None:
    text = run("synthesize", "--help").stdout
    assert "convlens synthesize class-model --target star --out star.png" in text
    for command in ("class-model", "unit", "invert", "fool"):
        assert f"  {command} " in text and "..." not in text.split("Commands:")[1]
        result = run("synthesize", command, "--help")
        assert max(map(len, result.stdout.splitlines())) <= 80
        page = run("synthesize", command, "--help-methods").stdout
        assert "--set PARAM=VALUE" in page and re.search("arXiv:|Erhan", page)
        document = json.loads(run("synthesize", command, "--help-methods", "--json").stdout)
        assert all(entry["title"] for entry in document.values())
    assert server.requests == []


def test_what_set_takes_is_the_contracts(run: Any) -> None:
    document = json.loads(run("synthesize", "class-model", "--help-methods", "--json").stdout)
    parameters = document["class-model"]["parameters"]
    assert parameters["jitter"]["range"] and parameters["start"]["choices"]
    assert not {"target", "priors"} & set(parameters)
    document = json.loads(run("synthesize", "fool", "--help-methods", "--json").stdout)
    assert list(document) == ["fool --by gradient", "fool --by direct", "fool --by cppn"]
    assert "max-nodes" in document["fool --by cppn"]["parameters"]
    assert "max-nodes" not in document["fool --by direct"]["parameters"]


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("convlens synthesize cl", ["class-model"]),
        ("convlens synthesize fool --by c", ["cppn"]),
        ("convlens synthesize class-model --set jit", ["jitter="]),
        ("convlens synthesize unit --set jitter=3,rot", ["jitter=3,rotation="]),
        ("convlens synthesize fool --set ev", ["evaluations="]),
    ],
)
def test_completion(spawn: Any, monkeypatch: Any, words: str, completed: list[str]) -> None:
    monkeypatch.setenv("_CONVLENS_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(len(words.split()) - 1))
    output = spawn().communicate(timeout=30)[0]
    assert [line.partition(",")[2] for line in output.splitlines()] == completed


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
