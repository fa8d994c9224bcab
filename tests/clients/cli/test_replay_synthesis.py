"""`convlens replay` of what `convlens synthesize` made: its receipt, and the same bits."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convlens.client._fake_synthesis import synthesize
from convlens.client.testing import FakeServer
from convlens.contract import ErrorReason, Failure
from convlens.v1 import synthesis_pb2 as pb
from tests.clients.cli.synthesizing import CAT, FOOL, question
from tests.clients.streaming import breaking

INVERT = ("synthesize", "invert", "--layer", "avgpool", "--steps", "9")


def changing(change: Any) -> Any:
    """A server that sends other messages in place of each."""

    def answer(request: Any) -> Iterator[pb.SynthesizeResponse]:
        for response in synthesize(request):
            yield from change(response)

    return answer


def other_pixel(response: pb.SynthesizeResponse) -> list[pb.SynthesizeResponse]:
    """Another last bit in the second picture."""
    if response.item.picture_index == 0:
        return [response]
    tensor = response.item.picture.pixels
    values = np.frombuffer(tensor.data, "<f4").copy()
    values[0] = np.nextafter(values[0], np.float32(2))
    tensor.data = values.tobytes()
    return [response]


def fewer(response: pb.SynthesizeResponse) -> list[pb.SynthesizeResponse]:
    """No second picture."""
    return [] if response.item.picture_index == 1 else [response]


def more(response: pb.SynthesizeResponse) -> list[pb.SynthesizeResponse]:
    """A third picture."""
    if response.item.picture_index == 0:
        return [response]
    other = pb.SynthesizeResponse()
    other.CopyFrom(response)
    other.item.picture_index += 1
    return [response, other]


def partial_end(response: pb.SynthesizeResponse) -> list[pb.SynthesizeResponse]:
    """The time was over."""
    if response.HasField("done"):
        response.done.is_partial = True
    return [response]


@pytest.fixture
def receipt(run: Any, tmp_path: Path) -> Path:
    """The receipt of two fooling images."""
    out = tmp_path / "fooled.png"
    asked = ("--steps", "20", "--seed", "7", "--canvas", "24x16")
    assert run(*FOOL, *asked, "--out", out).exit_code == 0
    return tmp_path / "fooled.receipt.json"


def test_a_receipt(run: Any, receipt: Path) -> None:
    document = json.loads(receipt.read_text())
    [call] = document["calls"]
    assert document["format"] == "convlens synthesize, 1"
    assert (call["pictures"], call["is_partial"]) == ([], False)
    assert call["receipt"]["parameters"]["canvas"] == {"height": 24, "width": 16}
    assert [made["file"] for made in call["made"]] == ["fooled-1.png", "fooled-2.png"]
    assert [made["target"]["label"] for made in call["made"]] == ["cat", "dog"]
    assert all(set(made["arrays"]) == {"png", "pixels"} for made in call["made"])


def test_the_same_bits(run: Any, server: FakeServer, receipt: Path) -> None:
    result = run("replay", receipt, "--timeout", "9")
    assert (result.exit_code, result.stderr) == (0, "")
    head, *rows, last = result.stdout.splitlines()
    assert head.split() == ["picture", "method", "class", "outcome"]
    assert [row.split() for row in rows] == [
        ["fooled-1.png", "Fooling", "images", "cat", "equal"],
        ["fooled-2.png", "Fooling", "images", "dog", "equal"],
    ]
    assert last == "2 of 2 answers are equal bit for bit."
    sent = question(server)
    assert (sent.network, sent.seed, sent.method.fooling.gradient.steps) == ("pets@1", 7, 20)
    assert (sent.canvas.height, sent.canvas.width, sent.preview_every) == (24, 16, 0)
    assert server.requests[-1].timeout == pytest.approx(9, abs=1)


def test_other_bits(run: Any, server: FakeServer, receipt: Path) -> None:
    server.answers["Synthesize"] = changing(other_pixel)
    result = run("replay", receipt)
    assert result.exit_code == 1
    _, first, second, last = result.stdout.splitlines()
    assert first.endswith("equal") and second.endswith("differs in pixels")
    assert last == "1 of 2 answers are equal bit for bit."
    document = json.loads(run("replay", receipt, "--json").stdout)
    assert (document["equal"], document["causes"]) == (False, {})
    [same, other] = document["answers"]
    assert (same["picture"], same["label"]) == ("fooled-1.png", "cat")
    assert same["method"] == other["method"] == "Fooling images"
    assert same["equal"] and other["differing"] == ["pixels"]


def test_pictures_that_came_or_went(run: Any, server: FakeServer, receipt: Path) -> None:
    server.answers["Synthesize"] = changing(fewer)
    result = run("replay", receipt)
    assert result.exit_code == 1 and "is not there any more" in result.stdout
    server.answers["Synthesize"] = changing(more)
    result = run("replay", receipt)
    assert result.exit_code == 1 and "picture 3" in result.stdout
    assert "was not there" in result.stdout


def test_what_may_explain_a_difference(run: Any, server: FakeServer, receipt: Path) -> None:
    def elsewhere(response: pb.SynthesizeResponse) -> list[pb.SynthesizeResponse]:
        if response.HasField("done"):
            response.done.receipt.device_kind = "NVIDIA H100"
        return other_pixel(response)

    server.answers["Synthesize"] = changing(elsewhere)
    result = run("replay", receipt)
    assert result.stdout.startswith("device kind: cpu then, NVIDIA H100 now\n")


def test_an_inverted_picture_is_found_by_its_content(
    run: Any, server: FakeServer, photo: Path, tmp_path: Path
) -> None:
    out = tmp_path / "back.png"
    asked = (*INVERT, photo, "--reconstructions", "2", "--out", out)
    assert run(*asked).exit_code == 0
    receipt = tmp_path / "back.receipt.json"
    [picture] = json.loads(receipt.read_text())["calls"][0]["pictures"]
    assert picture["path"] == str(photo) and len(picture["digest"]) == 64
    assert run("replay", receipt).exit_code == 0
    assert question(server).method.inversion.image.encoded == b"a picture"
    moved = photo.rename(tmp_path / "moved.png")
    result = run("replay", receipt)
    assert result.exit_code == 1 and f"{photo}, a picture of the receipt" in result.stderr
    assert run("replay", receipt, moved).exit_code == 0
    result = run("replay", receipt, moved, out)
    assert result.exit_code == 1 and "back.png is no picture of the receipt" in result.stderr


def test_a_code_is_in_the_receipt(run: Any, server: FakeServer, tmp_path: Path) -> None:
    code = tmp_path / "code.npy"
    np.save(code, np.arange(4))
    assert run(*INVERT, "--code", code, "--gif", tmp_path / "back.gif").exit_code == 0
    code.unlink()
    result = run("replay", tmp_path / "back.receipt.json")
    assert result.exit_code == 0 and "picture 1  Inversion" in result.stdout
    sent = question(server).method.inversion.code
    assert np.frombuffer(sent.data, "<f4").tolist() == [0, 1, 2, 3]


def test_a_resumed_run_is_replayed_from_the_beginning(
    run: Any, server: FakeServer, tmp_path: Path
) -> None:
    kept = ("--out", tmp_path / "cat.png", "--checkpoint", tmp_path / "cat.run")
    run(*CAT, *kept, "--steps", "8")
    assert run(*CAT, *kept, "--steps", "20").exit_code == 0
    assert question(server).checkpoint
    assert run("replay", tmp_path / "cat.receipt.json").exit_code == 0
    sent = question(server)
    assert not sent.checkpoint and sent.method.class_model.steps == 20


def test_pictures_that_were_not_done_are_not_replayed(
    run: Any, server: FakeServer, tmp_path: Path
) -> None:
    server.answers["Synthesize"] = changing(partial_end)
    assert run(*CAT, "--out", tmp_path / "cat.png", "--allow-partial").exit_code == 0
    before = len(server.requests)
    result = run("replay", tmp_path / "cat.receipt.json")
    assert (result.exit_code, result.stdout, len(server.requests)) == (1, "", before)
    assert "cat.receipt.json is of pictures whose time was over before they were" in result.stderr


def test_a_picture_that_is_not_done_has_no_receipt(
    run: Any, server: FakeServer, tmp_path: Path
) -> None:
    asked = (*CAT, "--out", tmp_path / "cat.png", "--steps", "20", "--preview-every", "4")
    assert run(*asked).exit_code == 0
    receipt = tmp_path / "cat.receipt.json"
    assert receipt.exists()
    internal = Failure(ErrorReason.ERROR_REASON_INTERNAL, request_id="42")
    server.answers["Synthesize"] = breaking(synthesize, 9, internal)
    assert run(*asked, "--overwrite").exit_code == 1
    assert not receipt.exists(), "that before was of another picture"


def test_a_receipt_that_is_there(run: Any, server: FakeServer, receipt: Path) -> None:
    for path in receipt.parent.glob("*.png"):
        path.unlink()
    before = receipt.read_bytes()
    result = run(*FOOL, "--out", receipt.parent / "fooled.png")
    assert result.exit_code == 1 and "fooled.receipt.json is there already" in result.stderr
    assert receipt.read_bytes() == before


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda call: call.pop("made"), "it lacks 'made' in calls[0]"),
        (lambda call: call.update(made=[3]), "calls[0].made[0] is 3; it must be an object"),
        (lambda call: call["made"][0].update(target={}), "it lacks 'label' in calls[0].made[0].ta"),
        (lambda call: call["made"][1].update(file=3), "calls[0].made[1].file is 3; it must be a t"),
        (lambda call: call["made"][0].update(arrays={"png": 1}), 'arrays["png"] is 1; it must be'),
        (lambda call: call.update(is_partial="no"), 'is_partial is "no"; it must be true or'),
        (
            lambda call: call.update(pictures=[{"path": "a", "digest": "b"}]),
            "calls[0] has 1 pictures; it must have 0",
        ),
        (lambda call: call["receipt"]["parameters"].pop("method"), "calls[0] has no method"),
    ],
)
def test_what_is_no_receipt(
    run: Any, server: FakeServer, receipt: Path, change: Any, said: str
) -> None:
    document = json.loads(receipt.read_text())
    change(document["calls"][0])
    receipt.write_text(json.dumps(document))
    before = len(server.requests)
    result = run("replay", receipt)
    assert (result.exit_code, result.stdout) == (1, "")
    [line] = result.stderr.splitlines()
    assert line.startswith(f"convlens: {receipt} is no receipt of convlens") and said in line
    assert len(server.requests) == before
