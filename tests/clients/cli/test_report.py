"""`convlens report`: what the page says, what is asked for it, and what becomes of the file."""

import json
import os
import re
import signal
import time
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from convlens.client._drawing import png_of
from convlens.client._fake_answers import default_answers
from convlens.client._fake_explanations import explain
from convlens.client.cli._report_drawings import shown_picture
from convlens.client.cli._report_words import number, percent
from convlens.client.testing import FakeServer
from convlens.contract import ErrorReason, Failure
from convlens.v1 import anatomy_pb2, classification_pb2, network_pb2, target_pb2
from convlens.v1 import explanation_methods_pb2 as methods
from convlens.v1 import explanation_pb2 as pb
from tests.clients.cli.reporting import Seen, out, photo, report

NOT_APPLICABLE = Failure(
    ErrorReason.ERROR_REASON_METHOD_NOT_APPLICABLE,
    method="Guided Grad-CAM",
    network="pets@1",
    detail="there is a SiLU",
)
__all__ = ["out", "photo", "report"]  # fixtures
HOSTILE = '<script>alert("\'&")</script>'


def asked(server: FakeServer) -> pb.ExplainRequest:
    """The request of the last call to ExplainStream."""
    [*_, last] = [sent.message for sent in server.requests if sent.rpc == "ExplainStream"]
    return last.request


def with_layers(server: FakeServer, *layers: tuple[str, int, bool]) -> None:
    """Gives the network layers: name, pixels that a unit sees, and whether deconvnet applies."""
    answer: Any = default_answers()["GetNetwork"]
    response = answer(network_pb2.GetNetworkRequest())
    for name, size, supports_deconvnet in layers:
        extent = anatomy_pb2.FieldExtent(size=size, jump=1)
        response.network.anatomy.layers.add(
            name=name,
            output_shape=[3, 8, 8],
            supports_deconvnet=supports_deconvnet,
            receptive_field=anatomy_pb2.ReceptiveField(vertical=extent, horizontal=extent),
        )
    server.answers["GetNetwork"] = response


def test_the_page_has_all_maps_with_their_scales(report: Any, photo: Path) -> None:
    page = report(photo)
    assert page.titles() == [
        *("Saliency", "SmoothGrad", "Integrated Gradients"),
        *("Guided Grad-CAM", "Grad-CAM", "Occlusion"),
    ]
    assert "photo.png" in page.text and "60 × 40 pixels" in page.text
    assert "cat 90.0 %" in page.text and "dog 10.0 %" in page.text
    bars = [a for a in page.all("div") if a.get("class") == "bar"]
    assert len(bars) == 6 and all("linear-gradient(90deg, #" in str(a["style"]) for a in bars)
    assert page.text.count("nothing") == 4
    assert page.text.count("against it") == 2
    assert "noise 0.15" in page.text and "relative-to-range" not in page.text
    assert "0.5 % (completeness)" in page.text
    assert page.text.count("99th percentile") == 1
    assert "the range among its parameters goes on to the largest" in page.text


def test_the_page_says_how_it_came_about(
    report: Any, server: FakeServer, photo: Path, out: Path
) -> None:
    page = report(photo, "--title", "My pets", "--seed", "7")
    # In the head, above the page, and in the command.
    assert page.text.count("My pets") == 3
    assert f"convlens report {photo} --title 'My pets' --seed 7 -o {out}" in page.text
    for fact in ("pets@1", "cpu, 1 threads, float32", "seed 7", "ConvLens fake"):
        assert fact in page.text
    spent = re.search(r"forward passes ([\d,]+) of at most ([\d,]+)", page.text)
    assert spent and spent[1] == spent[2]
    assert re.search(r"digest [0-9a-f]{64}", page.text)
    assert asked(server).seed == 7


def test_nothing_of_the_page_comes_from_elsewhere(report: Any, photo: Path) -> None:
    page = report(photo)
    [policy] = [a["content"] for a in page.all("meta") if a.get("http-equiv")]
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in page.elements}
    images = page.all("img")
    assert images and all(str(image["src"]).startswith("data:image/") for image in images)
    assert all("alt" in image for image in images)


def test_labels_and_names_are_text(run: Any, server: FakeServer, tmp_path: Path, out: Path) -> None:
    path = tmp_path / "<img src=x onerror='alert(1)'>.png"
    Image.new("RGB", (8, 8)).save(path, "PNG")
    server.answers["Classify"] = classification_pb2.ClassifyResponse(
        results=[
            classification_pb2.ClassifyResult(
                classification=classification_pb2.Classification(
                    classes=[target_pb2.ClassScore(label=HOSTILE, probability=1)]
                )
            )
        ]
    )

    def hostile(request: pb.ExplainRequest) -> pb.ExplainResponse:
        response = explain(request)
        for entry in response.results[0].explanation.attributions:
            entry.attribution.target.label = HOSTILE
            entry.attribution.notes.append(HOSTILE)
            entry.attribution.quantity = HOSTILE
            entry.attribution.layer = HOSTILE
        return response

    server.answers["Explain"] = hostile
    result = run("report", path, "-o", out, "--title", HOSTILE, "--layer", HOSTILE)
    assert result.exit_code == 0, result.output
    html = out.read_text(encoding="utf-8")
    assert "<script" not in html
    page = Seen(html)
    assert not [a for _, a in page.elements if any(name.startswith("on") for name in a)]
    assert page.text.count(HOSTILE) > 10
    assert f"SmoothGrad of {path.name} for the class {HOSTILE}" in [
        image["alt"] for image in page.all("img")
    ]


def test_names_of_files_that_are_no_text(run: Any, photo: Path, tmp_path: Path, out: Path) -> None:
    odd = photo.rename(tmp_path / os.fsdecode(b"caf\xe9.png"))
    result = run("report", odd, "-o", out, "--json")
    assert result.exit_code == 0, result.output
    stem = "caf\N{REPLACEMENT CHARACTER}"
    assert json.loads(result.stdout)["pictures"][0]["path"] == str(tmp_path / f"{stem}.png")
    assert f"{stem}.png" in Seen(out.read_text(encoding="utf-8")).text


def test_what_is_asked(report: Any, server: FakeServer, photo: Path) -> None:
    page = report(
        *(photo, "--method", "occlusion:window=8,stride=8", "--method", "saliency"),
        *("--target", "dog", "--target", "rank:1", "--measure", "deletion:steps=4"),
        *("--units", "2", "--layer", "avgpool", "--top-k", "1", "--timeout", "9", "--overlay"),
    )
    request = asked(server)
    assert [method.WhichOneof("method") for method in request.methods] == [
        *("occlusion", "saliency", "deconvnet")
    ]
    assert request.methods[2].deconvnet == methods.Deconvnet(layer="avgpool", strongest=2)
    assert request.network == "pets@1"
    assert request.HasField("rendering") and len(request.targets) == 2
    classified = next(sent for sent in server.requests if sent.rpc == "Classify")
    assert (classified.message.network, classified.message.top_k) == ("pets@1", 1)
    assert page.titles() == ["Occlusion", "Saliency"] * 2
    assert "What it rests on: dog" in page.text and "What it rests on: cat" in page.text
    assert page.text.count("Deletion") == 4 and len(page.all("polyline")) == 4
    [over] = [a for a in page.all("input") if a["id"] == "over"]
    assert "checked" in over


def test_the_strongest_units(report: Any, server: FakeServer, photo: Path) -> None:
    with_layers(server, ("near", 3, True), ("far", 12, True), ("all", 30, True))
    page = report(photo)
    assert asked(server).methods[-1].deconvnet == methods.Deconvnet(layer="far", strongest=3)
    assert [text for text in ("Map 0", "Map 1", "Map 2", "Map 3") if text in page.text] == [
        *("Map 0", "Map 1", "Map 2")
    ]
    assert "activation 0.333" in page.text
    assert "sees 16 × 16 px from 0, 0" in page.text
    assert "(left, top), is in pixels of the network’s input." in page.text
    seen = [image for image in page.all("img") if "sees" in str(image["alt"])]
    assert len(seen) == 3


def test_units_that_need_not_be(report: Any, server: FakeServer, photo: Path) -> None:
    with_layers(server, ("attention", 12, False))
    report(photo)
    assert "deconvnet" not in str(asked(server))
    with_layers(server, ("wide", 30, True))
    report(photo, "--overwrite", "--units", "0")
    assert "deconvnet" not in str(asked(server))
    # Where all units see everything, the deepest are shown.
    report(photo, "--overwrite")
    assert asked(server).methods[-1].deconvnet.layer == "wide"
    chosen = ["--method", "deconvnet:layer=near,strongest=1", "--overwrite"]
    page = report(photo, *chosen)
    assert len(asked(server).methods) == 1 and page.titles() == []


def test_a_layer_that_is_not_there_is_said_before_anything_is_computed(
    run: Any, server: FakeServer, photo: Path, out: Path
) -> None:
    with_layers(server, ("features.7", 12, True), ("classifier", 30, False))
    result = run("report", photo, "-o", out, "--layer", "feature.7")
    assert (result.exit_code, result.stdout, out.exists()) == (1, "", False)
    words = "Network pets@1 has no layer 'feature.7'; did you mean features.7?"
    assert result.stderr == f"convlens: {words}\n"
    assert [sent.rpc for sent in server.requests] == ["GetNetwork"]
    assert "'convlens anatomy' lists" in run("report", photo, "-o", out, "--layer", "x").stderr
    for layer in ("features.7", "cnn-code"):
        assert run("report", photo, "-o", out, "--layer", layer, "--overwrite").exit_code == 0


def refusing(request: pb.ExplainRequest) -> pb.ExplainResponse:
    """Guided methods do not apply to this network."""
    response = explain(request)
    for result in response.results:
        for entry in result.explanation.attributions:
            if request.methods[entry.method_index].WhichOneof("method") == "guided_grad_cam":
                entry.error.CopyFrom(NOT_APPLICABLE.status())
    return response


def test_what_does_not_apply_is_a_note_unless_it_was_asked_for(
    run: Any, report: Any, server: FakeServer, photo: Path, out: Path
) -> None:
    server.answers["Explain"] = refusing
    page = report(photo)
    assert len(page.titles()) == 5
    assert "Guided Grad-CAM is not here." in page.text and "there is a SiLU" in page.text
    result = run("report", photo, "--method", "guided-grad-cam", "-o", out, "--overwrite")
    assert result.exit_code == 1
    assert result.stderr.startswith(f"convlens: {photo}: Guided Grad-CAM: ")
    assert result.stderr.endswith("convlens: 1 of 1 answers failed.\n")


def test_a_picture_that_cannot_be_read_is_on_the_page(
    run: Any, photo: Path, tmp_path: Path, out: Path
) -> None:
    (tmp_path / "empty.png").write_bytes(b"")
    result = run("report", tmp_path / "gone.png", photo, tmp_path / "empty.png", "-o", out)
    assert result.exit_code == 1
    gone, empty, counted = result.stderr.splitlines()
    assert "gone.png: There is no file" in gone and "empty.png: The image is empty" in empty
    assert counted == "convlens: 2 of 8 answers failed."
    page = Seen(out.read_text(encoding="utf-8"))
    assert page.text.count("This picture has no answer.") == 2
    assert len(page.titles()) == 6
    anchors = [a["href"] for a in page.all("a")]
    assert anchors == ["#picture-1", "#picture-2", "#picture-3"]
    assert [a["id"] for a in page.all("article")] == ["picture-1", "picture-2", "picture-3"]


def test_where_no_picture_has_an_answer_there_is_no_page(
    run: Any, tmp_path: Path, out: Path
) -> None:
    # One cannot be sent, and the other is none that the server can read.
    (tmp_path / "empty.png").write_bytes(b"")
    for name in ("gone.png", "empty.png"):
        result = run("report", tmp_path / name, "-o", out)
        assert result.exit_code == 1 and not out.exists()
        assert "no picture has an answer; nothing is written" in result.stderr
    document = json.loads(run("report", tmp_path / "empty.png", "-o", out, "--json").stdout)
    assert document["report"] is None and not out.exists()


def test_a_picture_that_only_the_server_can_read(report: Any, tmp_path: Path) -> None:
    (tmp_path / "odd.png").write_bytes(b"a picture")
    page = report(tmp_path / "odd.png")
    assert "This picture cannot be shown here." in page.text
    assert len(page.titles()) == 6


def test_json(run: Any, photo: Path, tmp_path: Path, out: Path) -> None:
    result = run("report", photo, tmp_path / "gone.png", "-o", out, "--json")
    assert result.exit_code == 1
    document = json.loads(result.stdout)
    assert (document["report"], document["network"]) == (str(out), "pets@1")
    assert (document["answers"], document["failed"]) == (7, 1)
    first, second = document["pictures"]
    assert [score["label"] for score in first["classes"]] == ["cat", "dog"]
    assert first["answers"][0]["method"] == "Saliency"
    assert "There is no file" in second["error"]["message"]
    assert document["cost"] == document["estimated_cost"]


def test_a_page_that_is_there_is_kept(
    run: Any, server: FakeServer, photo: Path, out: Path, tmp_path: Path
) -> None:
    out.write_text("mine")
    result = run("report", photo, "-o", out)
    assert (result.exit_code, out.read_text()) == (1, "mine")
    assert result.stderr == (
        f"convlens: {out} is there already; choose another name, or give --overwrite.\n"
    )
    assert server.requests == []
    assert run("report", photo, "-o", out, "--overwrite").exit_code == 0
    assert out.read_text().startswith("<!doctype html>")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photo.png", "report.html"]


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("report.pdf", 2, "its name must end in .html"),
        ("nowhere/report.html", 1, "there is no folder"),
        ("folder.html", 1, "it is a folder"),
    ],
)
def test_a_page_that_cannot_be(
    run: Any, server: FakeServer, photo: Path, tmp_path: Path, name: str, code: int, words: str
) -> None:
    (tmp_path / "folder.html").mkdir()
    result = run("report", photo, "-o", tmp_path / name, "--overwrite")
    assert result.exit_code == code and words in result.stderr
    assert server.requests == []


def test_ctrl_c_leaves_no_file(
    spawn: Any, server: FakeServer, photo: Path, tmp_path: Path, out: Path
) -> None:
    release = os.pipe()
    server.answers["Explain"] = lambda _: os.read(release[0], 1)
    out.write_text("mine")
    process = spawn("report", photo, "-o", out, "--overwrite")
    while "ExplainStream" not in [sent.rpc for sent in server.requests]:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    for end in release[::-1]:
        os.close(end)
    assert (process.returncode, errors.strip()) == (130, "convlens: interrupted")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photo.png", "report.html"]
    assert out.read_text() == "mine"


def test_a_disk_that_is_full_leaves_what_was_there(
    run: Any, photo: Path, tmp_path: Path, out: Path, monkeypatch: Any
) -> None:
    def full(path: Path, data: bytes) -> None:
        with path.open("wb") as file:
            file.write(data[:10])
        raise OSError(28, "No space left on device")

    out.write_text("mine")
    monkeypatch.setattr(Path, "write_bytes", full)
    result = run("report", photo, "-o", out, "--overwrite")
    assert result.exit_code == 1
    assert result.stderr == f"convlens: {out} cannot be written: No space left on device.\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photo.png", "report.html"]
    assert out.read_bytes() == b"mine"


def test_pictures_are_shown_as_a_server_sees_them() -> None:
    def file(image: Image.Image, **options: Any) -> bytes:
        buffer = BytesIO()
        image.save(buffer, **options)
        return buffer.getvalue()

    turned = Image.Exif()
    turned[0x0112] = 6
    lying = shown_picture(file(Image.new("RGB", (1200, 600)), format="JPEG", exif=turned))
    assert lying and (lying.width, lying.height) == (600, 1200)
    assert len(lying.uri) < 20_000
    for image in (
        Image.new("RGBA", (4, 4), (255, 0, 0, 0)),
        Image.new("I;16", (4, 4), 65535),
        Image.new("P", (4, 4)),
        Image.new("1", (4, 4)),
    ):
        assert shown_picture(file(image, format="PNG"))
    cut = png_of(np.zeros((50, 50, 3), np.uint8))[:-30]
    assert shown_picture(cut) is None and shown_picture(b"<svg/>") is None


def test_numbers_are_short() -> None:
    values = (0, 1, -0.5, 0.012345, 123456.7, 12.345, 4.5e-7, -2e9, 99.99)
    assert [number(value) for value in values] == [
        *("0", "1", "−0.5", "0.0123", "123,457", "12.3"),
        *("4.5×10⁻⁷", "−2×10⁹", "100"),
    ]
    assert [percent(share) for share in (1, 0.9393, 0.0001, 0)] == [
        *("100.0 %", "93.9 %", "< 0.1 %", "0.0 %")
    ]
