"""`convlens synthesize`: what it asks, and what it prints."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convlens.client import Client, methods
from convlens.client.methods import Target
from convlens.client.testing import FakeServer
from convlens.v1 import synthesis_pb2 as pb
from tests.clients.cli.synthesizing import CAT, FOOL, answering, names, pixels, question


def test_a_picture_is_made(run: Any, server: FakeServer, tmp_path: Path) -> None:
    out = tmp_path / "cat.png"
    result = run(*CAT, "--out", out, "--steps", "600")
    assert (result.exit_code, result.stderr) == (0, "")
    head, row, last = result.stdout.splitlines()
    assert head.split() == ["made", "for", "answer", "as", "png", "steps", "file"]
    assert row.split() == [*("cat", "100.0", "%") * 3, "600", "cat.png"]
    assert re.fullmatch(
        r"pets@1: (\d+) of \1 forward and (\d+) of \2 backward passes, \d+\.\d s; receipt: (.*)",
        last,
    )
    assert last.endswith(f"receipt: {tmp_path / 'cat.receipt.json'}")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cat.png", "cat.receipt.json"]
    with Client(server.address) as client:
        made = client.synthesize_to_end(methods.ClassModel(steps=600), target="cat").pictures[0]
    assert out.read_bytes() == made.png


def test_a_picture_that_the_network_takes_for_another_class(
    run: Any, server: FakeServer, tmp_path: Path
) -> None:
    server.answers["Synthesize"] = answering("dog")
    result = run(*CAT, "--out", tmp_path / "cat.png", "--steps", "3")
    assert result.exit_code == 0
    row = result.stdout.splitlines()[1].split()
    assert row[:9] == [*("cat", "4.6", "%", "dog", "95.4", "%", "dog", "95.4", "%")]
    words = "convlens: note: the network gives another answer to what was made for "
    assert result.stderr == f"{words}cat.\n"
    fooled = run(*FOOL, "--out", tmp_path / "all.png", "--set", "steps=3,confidence=0.01")
    assert fooled.stderr == f"{words}cat.\n", "that of the dog is one to the network"


def test_what_is_left_out_is_left_to_the_server(
    run: Any, server: FakeServer, tmp_path: Path
) -> None:
    run(*CAT, "--out", tmp_path / "cat.png")
    bare = methods.ClassModel(target=Target(label="cat"))
    assert question(server) == pb.SynthesizeRequest(
        method=methods.SynthesisMethod(class_model=bare), return_pixels=True
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
        return_pixels=True,
        seed=9,
        allow_partial=True,
    )
    assert server.requests[0].timeout == pytest.approx(9, abs=1)
    assert pixels(tmp_path / "dog.png").shape == (24, 16, 3)


def test_the_natural_recipe(run: Any, server: FakeServer, tmp_path: Path) -> None:
    given = ("--natural", "--out", tmp_path / "a.png", "--overwrite", "--steps", "2")
    # As in docs/synthesis_pictures.py.
    natural = methods.Priors(
        parametrization=methods.Parametrization.Value("PARAMETRIZATION_FOURIER"),
        decorrelate_colors=True,
        jitter=4,
    )
    noise = methods.CanvasStart.Value("CANVAS_START_NOISE")
    assert run(*CAT, *given).exit_code == 0
    assert question(server).method.class_model == methods.ClassModel(
        target=Target(label="cat"), priors=natural, start=noise, steps=2
    )
    assert run("synthesize", "unit", "--layer", "avgpool", "--map", 1, *given).exit_code == 0
    asked = question(server).method.unit_maximization
    assert asked.priors == natural and not asked.start
    wishes = "jitter=8,start=mean,decorrelate-colors=false"
    assert run(*CAT, *given, "--set", wishes).exit_code == 0
    asked = question(server).method.class_model
    assert (asked.priors.jitter, asked.priors.decorrelate_colors) == (8, False)
    assert asked.priors.parametrization == natural.parametrization
    assert asked.start == methods.CanvasStart.Value("CANVAS_START_MEAN")


def test_a_unit(run: Any, server: FakeServer, tmp_path: Path) -> None:
    asked = ("synthesize", "unit", "--layer", "avgpool", "--out", tmp_path / "unit.png")
    result = run(*asked, "--map", "3", "--row", "0", "--column", "2", "--steps", "9")
    assert result.exit_code == 0
    head, row, _ = result.stdout.splitlines()
    assert head.split() == ["answer", "as", "png", "activation", "steps", "file"]
    assert row.split()[-3:] == ["1.31", "9", "unit.png"]
    unit = methods.FeatureUnit(map_index=3, position=methods.Position(row=0, column=2))
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


def test_a_document(run: Any, server: FakeServer, tmp_path: Path) -> None:
    out, gif = tmp_path / "fooled.png", tmp_path / "fooled.gif"
    result = run(*FOOL, "--out", out, "--gif", gif, "--steps", "3", "--json")
    assert result.exit_code == 0
    document = json.loads(result.stdout)
    assert document["command"] == "fool"
    assert document["network"] == "pets@1" and document["is_partial"] is False
    receipt = str(tmp_path / "fooled.receipt.json")
    files = {"out": str(out), "gif": str(gif), "checkpoint": None, "receipt": receipt}
    assert document["files"] == files
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
        (
            ["fool", "--by", "cppn", "--set", "evaluations=63"],
            "evaluations is 63; must be at least offspring, 64",
        ),
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
