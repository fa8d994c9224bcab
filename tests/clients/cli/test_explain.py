"""`convlens explain`: the files that it writes, what it asks, prints and counts."""

import json
import os
import re
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from convlens.client import methods
from convlens.client._fake_explanations import explain
from convlens.client.testing import FakeServer
from convlens.contract import ErrorReason, Failure
from convlens.v1 import explanation_pb2 as pb
from convlens.v1 import quality_pb2, target_pb2, tensor_pb2

NOT_APPLICABLE = Failure(
    ErrorReason.ERROR_REASON_LAYER_NOT_APPLICABLE, layer="fc", network="pets@1", detail="no maps"
)
Target = target_pb2.Target


def asked(server: FakeServer) -> pb.ExplainRequest:
    """The last request."""
    return server.requests[-1].message.request


def test_pictures_and_a_receipt_are_written(run: Any, photo: Path, tmp_path: Path) -> None:
    out = tmp_path / "maps"
    given = ["--method", "saliency", "--method", "occlusion:window=8,stride=8", "--target", "dog"]
    result = run("explain", photo, *given, "--target", "rank:1", "--out", out, "--maps")
    assert (result.exit_code, result.stderr) == (0, "")
    stems = [f"photo-{m}-{c}" for m in ("occlusion", "saliency") for c in ("cat", "dog")]
    names = [f"{stem}.{kind}" for stem in stems for kind in ("npy", "png")]
    assert sorted(path.name for path in out.iterdir()) == [*names, "receipt.json"]
    with Image.open(out / "photo-saliency-cat.png") as image:
        assert image.size == (128, 128)
    assert np.load(out / "photo-saliency-cat.npy").shape == (32, 32)
    head, *rows, last = result.stdout.splitlines()
    assert head.split() == ["method", "class", "score", "samples", "seconds", "file"]
    assert [row.split()[:2] + row.split()[-1:] for row in rows] == [
        ["Saliency", "dog", "photo-saliency-dog.png"],
        ["Saliency", "cat", "photo-saliency-cat.png"],
        ["Occlusion", "dog", "photo-occlusion-dog.png"],
        ["Occlusion", "cat", "photo-occlusion-cat.png"],
    ]
    assert rows[0].split()[2:6] == ["10.0", "%", "-0.20", "1"]
    assert last.startswith("pets@1: 34 of 34 forward and 2 of 2 backward passes, ")
    assert last.endswith(f"receipt: {out / 'receipt.json'}")


def test_the_receipt_has_all_that_replaying_needs(run: Any, photo: Path, tmp_path: Path) -> None:
    run("explain", photo, "--method", "occlusion", "--out", tmp_path / "maps", "--seed", "7")
    document = json.loads((tmp_path / "maps" / "receipt.json").read_text())
    [call] = document["calls"]
    assert call["receipt"]["network_digest"]
    parameters = call["receipt"]["parameters"]
    assert parameters["@type"].endswith("convlens.v1.ExplainRequest")
    assert parameters["methods"][0]["occlusion"]["stride"] == 8
    assert parameters["seed"] == "7"
    [picture] = call["pictures"]
    assert picture["path"] == str(photo) and len(picture["digest"]) == 64
    [answer] = picture["answers"]
    assert (answer["method"], answer["method_index"], answer["target_index"]) == (
        "Occlusion",
        0,
        None,
    )
    assert answer["target"]["label"] == "cat"
    assert sorted(answer["arrays"]) == [
        "map",
        "occlusion.activation",
        "occlusion.predicted_class",
        "occlusion.probability",
    ]
    assert len(set(answer["arrays"].values())) == 4
    assert answer["files"] == {"png": "photo-occlusion-cat.png"}


def test_without_a_folder_nothing_is_written_or_drawn(
    run: Any, server: FakeServer, photo: Path, tmp_path: Path
) -> None:
    result = run("explain", photo, photo, "--method", "grad-cam")
    assert (result.exit_code, result.stderr) == (0, "")
    assert list(tmp_path.iterdir()) == [photo]
    assert not asked(server).HasField("rendering")
    head, *rows, last = result.stdout.splitlines()
    assert head.split()[0] == "picture" and head.split()[-1] == "seconds"
    assert len(rows) == 2 and "photo.png  Grad-CAM  cat" in rows[0]
    assert "receipt" not in last


def test_json(run: Any, photo: Path, tmp_path: Path) -> None:
    result = run(
        *("explain", photo, tmp_path / "gone.png", "--method", "integrated-gradients", "--json"),
        *("--measure", "deletion:steps=4", "--localize", "--out", tmp_path / "maps"),
    )
    assert result.exit_code == 1
    document = json.loads(result.stdout)
    assert document["network"] == "pets@1"
    assert document["estimated_cost"] == {"forward_passes": 432, "backward_passes": 432}
    assert document["receipt"] == str(tmp_path / "maps" / "receipt.json")
    first, second = document["pictures"]
    [answer] = first["answers"]
    assert answer["target"]["probability"] == pytest.approx(0.9)
    assert answer["error_estimate"]["kind"] == "completeness"
    assert answer["scores"][0]["measure"] == "deletion"
    assert answer["box"]["right"] - answer["box"]["left"] == 16
    assert "There is no file" in second["error"]["message"] and "answers" not in second


def test_what_is_asked(run: Any, server: FakeServer, photo: Path, tmp_path: Path) -> None:
    mask = tmp_path / "mask.png"
    Image.fromarray(np.array([[0, 255], [9, 0]], np.uint8)).save(mask)
    run(
        *("explain", photo, photo, "--out", tmp_path / "maps", "--network", "pets", "--half"),
        *("--method", "Smooth_Grad:samples=10,noise=0.2,form=squared", "--method", "gradcam"),
        *("--target", "3", "--target", "cat", "--target", "rank:2", "--target", "label:7"),
        *("--target", "index:1", "--measure", "pointing-game:tolerance=3", "--overlay"),
        *("--rendering", "colormap=magma,scale=fixed,maximum=2", "--seed", "9"),
        *("--localization", "method=threshold", "--true-region", "1,2,3.5,4"),
        *("--true-region", mask, "--stable-share", "0.5", "--allow-partial", "--timeout", "9"),
    )
    [sent] = server.requests
    request = sent.message.request
    assert sent.timeout == pytest.approx(9, abs=1)
    assert [entry.encoded for entry in request.images] == [b"a picture"] * 2
    smooth = methods.SmoothGrad(
        samples=10, noise=0.2, form=methods.SmoothGradForm.Value("SMOOTH_GRAD_FORM_SQUARED")
    )
    assert list(request.methods) == [
        methods.ExplanationMethod(smooth_grad=smooth),
        methods.ExplanationMethod(grad_cam=methods.GradCam()),
    ]
    assert list(request.targets) == [
        Target(class_index=3),
        Target(label="cat"),
        Target(rank=2),
        Target(label="7"),
        Target(class_index=1),
    ]
    assert request.rendering == methods.Rendering(
        style=pb.RENDERING_STYLE_OVERLAY,
        colormap="magma",
        scale=pb.COLOR_SCALE_FIXED,
        maximum=2,
    )
    threshold = quality_pb2.LOCALIZATION_METHOD_THRESHOLD
    assert request.localization == methods.Localization(method=threshold)
    assert request.measures[0].pointing_game.tolerance == 3
    assert request.true_regions[0].box.right == 3.5
    assert request.true_regions[1].mask.data == bytes([0, 1, 1, 0])
    assert (request.seed, request.stable_share, request.allow_partial) == (9, 0.5, True)
    assert request.dtype == tensor_pb2.DATA_TYPE_FLOAT16
    assert request.network == "pets"


def test_what_is_left_out_is_left_to_the_server(
    run: Any, server: FakeServer, photo: Path, tmp_path: Path
) -> None:
    run("explain", photo, "--method", "saliency", "--out", tmp_path / "maps", "--localize")
    request = asked(server)
    bare = pb.ExplainRequest(
        images=request.images,
        methods=[methods.ExplanationMethod(saliency=methods.Saliency())],
        rendering=methods.Rendering(),
        localization=methods.Localization(),
    )
    assert request == bare


def test_names_of_files_are_unique(run: Any, server: FakeServer, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "photo.png").write_bytes(folder.encode())
    out = tmp_path / "maps"
    twice = ["--method", "occlusion", "--method", "occlusion:window=4,stride=4"]
    result = run("explain", tmp_path / "a", tmp_path / "b", *twice, "--out", out)
    assert result.exit_code == 0
    assert sorted(path.name for path in out.glob("*.png")) == [
        "photo-occlusion-2-cat-2.png",
        "photo-occlusion-2-cat.png",
        "photo-occlusion-cat-2.png",
        "photo-occlusion-cat.png",
    ]


def relabelled(label: str) -> Any:
    """A server whose class has this label."""

    def answer(request: pb.ExplainRequest) -> pb.ExplainResponse:
        response = explain(request)
        for result in response.results:
            for entry in result.explanation.attributions:
                entry.attribution.target.label = label
                entry.attribution.notes.append("sigmoid gates keep their gradient")
                entry.attribution.is_partial = True
        return response

    return answer


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("../../tiger, cat", "photo-saliency-tiger-cat.png"),
        ("\x1b[31m", "photo-saliency-31m.png"),
        ("///", "photo-saliency-0.png"),
        ("x" * 300, f"photo-saliency-{'x' * 40}.png"),
        ("猫", "photo-saliency-猫.png"),
    ],
)
def test_labels_in_names_of_files(
    run: Any, server: FakeServer, photo: Path, tmp_path: Path, label: str, name: str
) -> None:
    server.answers["Explain"] = relabelled(label)
    out = tmp_path / "maps"
    result = run("explain", photo, "--method", "saliency", "--out", out)
    assert result.exit_code == 0
    assert sorted(path.name for path in out.iterdir()) == sorted([name, "receipt.json"])
    assert "\x1b" not in result.output


def test_notes_are_told_once(run: Any, server: FakeServer, photo: Path) -> None:
    server.answers["Explain"] = relabelled("cat")
    result = run("explain", photo, photo, "--method", "saliency")
    assert result.exit_code == 0
    assert result.stderr.splitlines() == [
        "convlens: note: Saliency: the time was over after 1 samples.",
        "convlens: note: Saliency: sigmoid gates keep their gradient.",
    ]


def test_integrated_gradients_that_have_not_converged_are_a_note(
    run: Any, server: FakeServer, photo: Path
) -> None:
    def unconverged(request: pb.ExplainRequest) -> pb.ExplainResponse:
        response = explain(request)
        found = response.results[0].explanation.attributions[0].attribution
        found.integrated_gradients.converged = False
        found.error_estimate.relative = 0.25
        return response

    server.answers["Explain"] = unconverged
    result = run("explain", photo, "--method", "integrated-gradients:steps=9")
    assert result.exit_code == 0
    assert result.stderr == (
        "convlens: note: Integrated Gradients: it has not converged after 9 steps, and the sum is "
        "off by 25.0 %; allow more with max-steps.\n"
    )


@pytest.mark.parametrize(("relative", "is_told"), [(0.4, False), (2.3, True)])
def test_an_approximate_map_that_is_far_off_is_a_note(
    run: Any, server: FakeServer, photo: Path, relative: float, is_told: bool
) -> None:
    def approximate(request: pb.ExplainRequest) -> pb.ExplainResponse:
        response = explain(request)
        found = response.results[0].explanation.attributions[0].attribution
        found.error_estimate.relative = relative
        return response

    server.answers["Explain"] = approximate
    result = run("explain", photo, "--method", "occlusion:projective-threshold=0.4")
    assert result.exit_code == 0
    told = (
        "convlens: note: Occlusion: the map may be off by 230.0 % of its largest value; raise "
        "projective-threshold, 1 is exact.\n"
    )
    assert result.stderr == (told if is_told else "")


def test_a_measure_that_cannot_judge_a_method_is_no_failure(
    run: Any, server: FakeServer, photo: Path
) -> None:
    reason = ErrorReason.ERROR_REASON_MEASURE_NOT_APPLICABLE
    unfit = Failure(reason, measure="Pointing game", method="Saliency", detail="it is not")

    def answer(request: pb.ExplainRequest) -> pb.ExplainResponse:
        response = explain(request)
        for result in response.results:
            for entry in result.explanation.attributions:
                entry.attribution.scores[0].error.CopyFrom(unfit.status())
        return response

    server.answers["Explain"] = answer
    result = run("explain", photo, photo, "--method", "saliency", "--measure", "pointing-game")
    assert result.exit_code == 0
    assert result.stderr == "convlens: note: Pointing game cannot judge Saliency: it is not.\n"
    head, first, *_ = result.stdout.splitlines()
    assert "pointing-game" in head and "–" in first


def test_a_folder_with_a_receipt_is_not_written_over(
    run: Any, server: FakeServer, photo: Path, tmp_path: Path
) -> None:
    out = tmp_path / "maps"
    command = ["explain", photo, "--method", "saliency", "--out", out]
    assert run(*command).exit_code == 0
    asked_before = len(server.requests)
    result = run(*command)
    assert result.exit_code == 1
    assert result.stderr == (
        f"convlens: {out / 'receipt.json'} is there already; choose another folder, or give "
        "--overwrite.\n"
    )
    assert len(server.requests) == asked_before
    assert run(*command, "--overwrite").exit_code == 0


def test_a_folder_that_cannot_be(run: Any, photo: Path) -> None:
    result = run("explain", photo, "--method", "saliency", "--out", photo / "maps")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.endswith("maps cannot be written: Not a directory.\n")


def failing(request: pb.ExplainRequest) -> pb.ExplainResponse:
    """The second method applies to no picture, and the measure to no method."""
    response = explain(request)
    for result in response.results:
        for entry in result.explanation.attributions:
            if entry.method_index == 1:
                entry.error.CopyFrom(NOT_APPLICABLE.status())
            for score in entry.attribution.scores:
                score.error.CopyFrom(NOT_APPLICABLE.status())
    return response


def test_what_fails_is_said_and_the_others_go_on(
    run: Any, server: FakeServer, photo: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty.png").write_bytes(b"")
    server.answers["Explain"] = failing
    pictures = [photo, tmp_path / "empty.png", tmp_path / "gone.png"]
    given = ["--method", "saliency", "--method", "grad-cam:layer=fc", "--measure", "pointing-game"]
    result = run("explain", *pictures, *given, "--out", tmp_path / "maps")
    assert result.exit_code == 1
    score, grad_cam, empty, gone, counted = result.stderr.splitlines()
    assert score.startswith(f"convlens: {photo}: Saliency, Pointing game: Layer fc of pets@1")
    assert grad_cam.startswith(f"convlens: {photo}: Grad-CAM: Layer fc of pets@1 cannot be used")
    assert empty.startswith(f"convlens: {pictures[1]}: The image is empty")
    assert gone.startswith(f"convlens: {pictures[2]}: There is no file")
    assert counted == "convlens: 4 of 4 answers failed."
    assert [path.name for path in (tmp_path / "maps").glob("*.png")] == ["photo-saliency-cat.png"]
    [call] = json.loads((tmp_path / "maps" / "receipt.json").read_text())["calls"]
    first, second = call["pictures"]
    assert first["answers"][1]["error"]["reason"] == "LAYER_NOT_APPLICABLE"
    assert second["error"]["reason"] == "IMAGE_EMPTY"


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_what_fails_for_all_is_said_once(run: Any, photo: Path, form: list[str]) -> None:
    result = run("explain", photo, photo, "--method", "saliency", "--network", "zoo", *form)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "convlens: No network zoo is served; served are: pets@1.\n"


def test_only_pictures_that_cannot_be_read(run: Any, server: FakeServer, tmp_path: Path) -> None:
    command = ["explain", tmp_path / "gone.png", "--method", "saliency"]
    result = run(*command, "--out", tmp_path / "maps")
    assert (result.exit_code, result.stdout) == (1, "")
    assert server.requests == []
    assert not (tmp_path / "maps").exists()


def test_ctrl_c_leaves_no_empty_folder(
    spawn: Any, server: FakeServer, photo: Path, tmp_path: Path
) -> None:
    release = os.pipe()
    server.answers["Explain"] = lambda _: os.read(release[0], 1)
    out = tmp_path / "deep" / "maps"
    process = spawn("explain", photo, "--method", "saliency", "--out", out)
    while not server.requests:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    for end in release[::-1]:
        os.close(end)
    assert (process.returncode, errors.strip()) == (130, "convlens: interrupted")
    assert list(tmp_path.iterdir()) == [photo]


def test_the_estimate(run: Any, server: FakeServer, photo: Path) -> None:
    command = ["explain", photo, photo, "--method", "smooth-grad:samples=10", "--estimate"]
    result = run(*command)
    assert result.stdout == "at most 20 forward and 20 backward passes\n"
    document = json.loads(run(*command, "--json").stdout)
    assert document == {"estimated_cost": {"forward_passes": 20, "backward_passes": 20}}
    assert server.requests[0].message.estimate_only


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_an_estimate_goes_on_without_pictures_that_cannot_be_read(
    run: Any, photo: Path, tmp_path: Path, form: list[str]
) -> None:
    gone = tmp_path / "gone.png"
    result = run("explain", gone, photo, photo, "--method", "saliency", "--estimate", *form)
    assert result.exit_code == 1
    said, counted = result.stderr.splitlines()
    assert said.startswith(f"convlens: {gone}: There is no file")
    assert counted == "convlens: 1 of 3 pictures failed."
    cost = {"estimated_cost": {"forward_passes": 2, "backward_passes": 2}}
    text = "at most 2 forward and 2 backward passes"
    assert result.stdout == f"{json.dumps(cost) if form else text}\n"


def test_an_estimate_of_no_picture_says_no_cost(run: Any, server: FakeServer) -> None:
    result = run("explain", "gone.png", "--method", "saliency", "--estimate")
    assert (result.exit_code, result.stdout, server.requests) == (1, "", [])


def test_many_pictures_are_several_calls(
    run: Any, server: FakeServer, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr("convlens.client.cli._calls.MOST_BYTES", 100)
    (tmp_path / "photos").mkdir()
    sizes = [1] * 20 + [60, 60, 150, 1]
    for number, size in enumerate(sizes):
        (tmp_path / "photos" / f"{number:02}.png").write_bytes(bytes([number + 1]) * size)
    out = tmp_path / "maps"
    result = run("explain", tmp_path / "photos", "--method", "saliency", "--out", out)
    assert result.exit_code == 0
    sent = [len(request.message.request.images) for request in server.requests]
    assert sent == [16, 5, 1, 1, 1]
    assert len(list(out.glob("*.png"))) == 24
    calls = json.loads((out / "receipt.json").read_text())["calls"]
    assert [len(call["pictures"]) for call in calls] == sent
    assert result.stdout.splitlines()[-1].startswith("pets@1: 24 of 24 forward")


def test_a_bar_on_a_terminal(
    spawn: Any, server: FakeServer, terminal: Any, photo: Path, monkeypatch: Any
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    theirs, written, finish = terminal
    process = spawn("explain", photo, "--method", "saliency", stdout=theirs, stderr=theirs)
    assert process.wait(30) == 0
    finish()
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "\n", b"".join(written).decode())
    assert "explaining" in text
    lines = [line for line in text.replace("\r", "\n").splitlines() if "Saliency" in line]
    assert lines and max(map(len, lines)) <= 80
