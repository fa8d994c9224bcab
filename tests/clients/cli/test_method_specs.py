"""Methods and parameters of `convlens explain`: their names, their help, their mistakes."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from convlens.client import methods
from convlens.client.testing import FakeServer
from convlens.contract import with_defaults
from convlens.v1 import explanation_pb2 as pb


def asked(server: FakeServer) -> pb.ExplainRequest:
    """The last request."""
    return server.requests[-1].message.request


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "deconvnet:layer=a.0,map-index=2,position=3/4",
            {"layer": "a.0", "map_index": 2, "position": ()},
        ),
        ("deconvnet:layer=a, keep = whole_map", {"layer": "a", "keep": 2}),
        ("occlusion:adaptive", {"adaptive": True}),
        ("occlusion:adaptive=no,fill=Blur", {"adaptive": False, "fill": 4}),
        ("GRAD-CAM:relu=off,interpolation=nearest", {"relu": False, "interpolation": 3}),
        ("integrated_gradients:tolerance=1e-3,", {"tolerance": 0.001}),
        ("saliency:reduction=none", {"reduction": 4}),
    ],
)
def test_methods_and_parameters_are_the_contracts(
    run: Any, server: FakeServer, photo: Path, text: str, message: dict[str, Any]
) -> None:
    assert run("explain", photo, "--method", text).exit_code == 0
    [method] = asked(server).methods
    sent = getattr(method, str(method.WhichOneof("method")))
    if "position" in message:
        message = {**message, "position": methods.Position(row=3, column=4)}
    assert sent == type(sent)(**message)


def test_an_image_as_parameter(run: Any, server: FakeServer, photo: Path) -> None:
    run("explain", photo, "--method", f"integrated-gradients:baseline-image={photo}")
    image = asked(server).methods[0].integrated_gradients.baseline_image
    assert image.encoded == b"a picture"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--method", "salency"], "there is no method 'salency'; did you mean saliency? There are"),
        (["--method", "zzz"], "there is no method 'zzz'. There are: saliency, input-x-gradient"),
        (["--method", ""], "there is no method ''"),
        (
            ["--method", "saliency:redaction=none"],
            "'redaction'; did you mean reduction? There are: re",
        ),
        (
            ["--method", "occlusion:fill=blu"],
            "no value of fill 'blu'; did you mean blur? There are: g",
        ),
        (["--method", "occlusion:fill="], "no value of fill ''"),
        (
            ["--method", "occlusion:window=0"],
            "window is 0; must be at least 1 and at most 1024 pix",
        ),
        (["--method", "occlusion:window=-1"], "window is -1; must be at least 1"),
        (["--method", "occlusion:window=16,Window=32"], "window is there twice; give it once"),
        (["--method", "occlusion:"], "'occlusion:': nothing is behind the colon; write NAME or"),
        (["--method", "occlusion: ,"], "nothing is behind the colon"),
        (["--method", "saliency", "--measure", "deletion:"], "nothing is behind the colon"),
        (["--method", "occlusion:window=x"], "window is 'x'; it must be a whole number"),
        (["--method", "occlusion:window"], "window has no value; write window=VALUE"),
        (["--method", "occlusion:adaptive=maybe"], "adaptive is 'maybe'; it must be true or false"),
        (["--method", "smooth-grad:noise=much"], "noise is 'much'; it must be a number"),
        (["--method", "smooth-grad:noise=nan"], "noise is nan; must be greater than 0"),
        (["--method", "deconvnet"], "layer must not be empty"),
        (["--method", "deconvnet:layer=a,position=3"], "position is '3'; it must be ROW/COLUMN"),
        (
            ["--method", "integrated-gradients:baseline-image=gone.png"],
            "There is no file 'gone.png'",
        ),
        (
            ["--method", "saliency", "--measure", "delete"],
            "no measure 'delete'; did you mean deletio",
        ),
        (
            ["--method", "grad-cam", "--rendering", "stile=x"],
            "did you mean style or scale?",
        ),
        (["--method", "saliency", "--rendering", "style=overlay"], "--rendering need --out"),
        (["--method", "saliency", "--overlay"], "need --out"),
        (["--method", "saliency", "--maps"], "--maps needs --out"),
        (
            ["--method", "saliency", "--target", "rank:first"],
            "'first' is no whole number from 0 to 4294967295",
        ),
        (["--method", "saliency", "--target", "index:-1"], "'-1' is no whole number from 0 to 42"),
        (["--method", "saliency", "--target", "9" * 20], "is no whole number from 0 to 4294967295"),
        (
            ["--method", "saliency", "--true-region", "1,2,3"],
            "is no box; write LEFT,TOP,RIGHT,BOTT",
        ),
        (["--method", "saliency", "--true-region", "gone.png"], "is no box, and no mask that can"),
        (
            ["--method", "saliency", "--true-region", "1,2,3,4", "--true-region", "1,2,3,4"],
            "--true-region is there 2 times for 1 pictures",
        ),
        (["--method", "saliency", "--seed", "9" * 20], f"is not in the range 0<=x<={2**64 - 1}"),
        (["--method", "saliency", "--stable-share", "2"], "2.0 is not in the range 0.0<=x<=1.0"),
        ([], "Missing option '--method'; 'convlens explain --help-methods' lists what there is"),
    ],
)
def test_wrong_usage_is_2_and_one_line(
    run: Any, server: FakeServer, photo: Path, given: list[str], said: str
) -> None:
    result = run("explain", photo, *given)
    assert (result.exit_code, result.stdout) == (2, "")
    [line] = result.stderr.splitlines()
    assert line.startswith("convlens: ") and said in line
    assert line.endswith("--help'.")
    assert server.requests == []


def test_no_pictures(run: Any) -> None:
    result = run("explain", "--method", "saliency")
    assert result.exit_code == 2 and "Missing argument 'FILE|FOLDER|GLOB...'" in result.stderr


def parameters() -> list[tuple[str, Any]]:
    """Every parameter of every method and measure of the contract."""
    kinds: list[Any] = [methods.ExplanationMethod.DESCRIPTOR, methods.QualityMeasure.DESCRIPTOR]
    choices = [field for kind in kinds for field in kind.fields]
    return [(choice.name, field) for choice in choices for field in choice.message_type.fields]


def test_help_of_methods_has_everything(run: Any, server: FakeServer) -> None:
    result = run("explain", "--help-methods")
    assert (result.exit_code, result.stderr) == (0, "")
    assert max(map(len, result.stdout.splitlines())) <= 80
    text = " ".join(result.stdout.split())
    assert "occlusion: Occlusion Slides a window over the picture" in text
    assert "window=16 Side of the square window. At least 1 and at most 1024 pixels of the" in text
    assert "fill=grey What covers the window. One of grey, black, mean, blur, noise." in text
    assert "blur-sigma=10 How much fill=blur blurs." in text
    assert "position=ROW/COLUMN" in text and "baseline-image=FILE" in text
    assert "layer=NAME The layer, as GetNetwork lists it. Must be given." in text
    assert "Petsiuk et al. 2018, arXiv:1806.07421" in text and "iterations=5" in text
    assert not re.search(r"[A-Z]{3,}_[A-Z]{3,}", text)
    document = json.loads(run("explain", "--help-methods", "--json").stdout)
    everything = {**document["--method"], **document["--measure"]}
    for choice, field in parameters():
        entry = everything[choice.replace("_", "-")]["parameters"][field.name.replace("_", "-")]
        assert entry["about"]
    assert everything["smooth-grad"]["parameters"]["noise"]["default"] == "0.15"
    assert server.requests == []


def test_defaults_in_the_help_are_those_that_are_filled_in(run: Any) -> None:
    document = json.loads(run("explain", "--help-methods", "--json").stdout)
    for name, entry in document["--method"].items():
        field = name.replace("-", "_")
        method = methods.ExplanationMethod()
        getattr(method, field).SetInParent()
        filled = getattr(with_defaults(method), field)
        for parameter, about in entry["parameters"].items():
            value = getattr(filled, parameter.replace("-", "_"))
            if isinstance(value, float):
                assert value == float(about["default"])


def test_names_of_methods_are_completed(spawn: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("_CONVLENS_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "convlens explain a.png --method gu")
    monkeypatch.setenv("COMP_CWORD", "4")
    output = spawn().communicate(timeout=30)[0]
    assert output.split() == ["plain,guided-backprop", "plain,guided-grad-cam"]
