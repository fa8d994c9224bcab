"""`convlens replay`: the same bits, or what differs and why."""

import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convlens.client._fake_explanations import explain
from convlens.client.testing import FakeServer
from convlens.contract import ErrorReason, Failure
from convlens.v1 import explanation_pb2 as pb
from convlens.v1 import receipt_pb2

NOT_APPLICABLE = Failure(
    ErrorReason.ERROR_REASON_LAYER_NOT_APPLICABLE, layer="fc", network="pets@1", detail="no maps"
)
METHODS = ["--method", "smooth-grad:samples=5", "--method", "deconvnet:layer=a"]


@pytest.fixture
def receipt(run: Any, photo: Path, tmp_path: Path) -> Path:
    """The receipt of one picture, two methods and two targets; the numbers are kept."""
    out = tmp_path / "maps"
    targets = ["--target", "cat", "--target", "rank:2"]
    command = ["explain", photo, *METHODS, *targets, "--out", out, "--maps", "--seed", "5"]
    assert run(*command, "--measure", "deletion", "--true-region", "1,2,3,4").exit_code == 0
    return out / "receipt.json"


def changed(request: pb.ExplainRequest) -> pb.ExplainResponse:
    """Another last bit in one map, and another value in one patch."""
    response = explain(request)
    entries = response.results[0].explanation.attributions
    values = np.frombuffer(entries[0].attribution.map.data, "<f4").copy()
    values[np.abs(values).argmax()] *= np.float32(1 + 2**-23)
    entries[0].attribution.map.data = values.tobytes()
    patch = entries[2].attribution.deconvnet.patches[1]
    patch.reconstruction.data = bytes(len(patch.reconstruction.data))
    return response


def changed_map(request: pb.ExplainRequest) -> pb.ExplainResponse:
    """Another last bit in the only map."""
    response = explain(request)
    found = response.results[0].explanation.attributions[0].attribution
    values = np.frombuffer(found.map.data, "<f4").copy()
    values[np.abs(values).argmax()] *= np.float32(1 + 2**-23)
    found.map.data = values.tobytes()
    return response


def test_the_same_bits(run: Any, server: FakeServer, receipt: Path) -> None:
    result = run("replay", receipt)
    assert (result.exit_code, result.stderr) == (0, "")
    head, *rows, last = result.stdout.splitlines()
    assert head.split() == ["picture", "method", "class", "outcome"]
    assert [row.split()[1:] for row in rows] == [
        ["SmoothGrad", "cat", "equal"],
        ["SmoothGrad", "dog", "equal"],
        ["Deconvnet", "equal"],
    ]
    assert last == "3 of 3 answers are equal bit for bit."


def test_the_same_question(run: Any, server: FakeServer, receipt: Path) -> None:
    run("replay", receipt, "--timeout", "9")
    then, now = (request.message.request for request in server.requests)
    assert now.network == "pets@1" and now.seed == then.seed == 5
    assert now.images == then.images and now.targets == then.targets
    assert now.true_regions == then.true_regions
    assert now.methods[0].smooth_grad.samples == 5
    assert now.methods[0].smooth_grad.noise == 0.15
    assert now.measures[0].deletion.steps == 64
    assert now.HasField("rendering") and not now.HasField("localization")
    assert server.requests[1].timeout == pytest.approx(9, abs=1)


def test_other_bits(run: Any, server: FakeServer, receipt: Path) -> None:
    server.answers["Explain"] = changed
    result = run("replay", receipt)
    assert result.exit_code == 1
    _, first, second, third, last = result.stdout.splitlines()
    assert re.search(r"differs in map; by at most 1\.\de-07 of the largest value$", first)
    assert second.endswith("equal")
    # What differs is no map, so its numbers were not kept.
    assert "differs in deconvnet.patches[1].reconstruction" in third
    assert last == "1 of 3 answers are equal bit for bit."


def test_json(run: Any, server: FakeServer, receipt: Path, photo: Path) -> None:
    server.answers["Explain"] = changed
    result = run("replay", receipt, "--json")
    assert result.exit_code == 1
    document = json.loads(result.stdout)
    assert (document["receipt"], document["equal"], document["causes"]) == (str(receipt), False, {})
    first, second, third = document["answers"]
    assert (first["picture"], first["method"], first["label"]) == (str(photo), "SmoothGrad", "cat")
    assert not first["equal"] and first["differing"] == ["map"]
    assert 0 < first["relative"] < 1e-6
    assert second["equal"] and second["differing"] == []
    assert third["differing"] == ["deconvnet.patches[1].reconstruction"]


def test_numbers_that_were_not_kept(run: Any, server: FakeServer, receipt: Path) -> None:
    for path in receipt.parent.glob("*.npy"):
        path.unlink()
    server.answers["Explain"] = changed
    result = run("replay", receipt)
    assert result.exit_code == 1
    assert result.stdout.splitlines()[1].endswith("differs in map")


def test_what_may_explain_a_difference_comes_first(
    run: Any, server: FakeServer, receipt: Path
) -> None:
    def elsewhere(request: pb.ExplainRequest) -> pb.ExplainResponse:
        response = changed(request)
        response.receipt.network = "pets"
        response.receipt.network_version = "1"
        response.receipt.network_digest = "0123456789abcdef0123456789"
        response.receipt.torch_version = "9.0"
        response.receipt.convlens_version = "fake"
        response.receipt.device_kind = "NVIDIA H100"
        response.receipt.precision = receipt_pb2.PRECISION_FLOAT32
        return response

    server.answers["Explain"] = elsewhere
    result = run("replay", receipt)
    assert result.exit_code == 1
    network, torch, device, threads, head, *_ = result.stdout.splitlines()
    assert network.startswith("network digest: 8f1f") and network.endswith("def0123 now")
    assert torch == "torch version: nothing then, 9.0 now"
    assert device == "device kind: cpu then, NVIDIA H100 now"
    assert threads == "threads: 1 then, 0 now"
    assert head.startswith("picture")
    document = json.loads(run("replay", receipt, "--json").stdout)
    assert document["causes"]["device_kind"] == {"then": "cpu", "now": "NVIDIA H100"}


def test_pictures_are_found_by_their_content(
    run: Any, receipt: Path, photo: Path, tmp_path: Path
) -> None:
    moved = photo.rename(tmp_path / "moved.png")
    result = run("replay", receipt)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"convlens: {photo}, a picture of the receipt: There is no fi")
    photo.write_bytes(b"another picture")
    result = run("replay", receipt)
    assert result.stderr.endswith(": It has become another picture; give the file as it was.\n")
    assert run("replay", receipt, moved).exit_code == 0
    result = run("replay", receipt, moved, photo)
    assert result.exit_code == 1
    assert result.stderr == f"convlens: {photo} is no picture of the receipt.\n"
    assert run("replay", receipt, tmp_path / "gone.png").exit_code == 1


def test_names_of_files_that_are_no_text(
    run: Any, server: FakeServer, photo: Path, tmp_path: Path
) -> None:
    odd = tmp_path / os.fsdecode(b"caf\xe9.png")
    photo.rename(odd)
    out = tmp_path / "maps"
    command = ["explain", odd, "--method", "saliency", "--out", out, "--maps", "--json"]
    result = run(*command)
    assert result.exit_code == 0
    stem = "caf\N{REPLACEMENT CHARACTER}"
    for text in (result.stdout, (out / "receipt.json").read_text()):
        # What a lone surrogate would not survive.
        text.encode()
        json.dumps(json.loads(text), ensure_ascii=False).encode()
        assert json.loads(f'"{stem}.png"') in json.dumps(json.loads(text), ensure_ascii=False)
    names = sorted(path.name for path in out.iterdir())
    assert names == [f"{stem}-saliency-cat.npy", f"{stem}-saliency-cat.png", "receipt.json"]
    server.answers["Explain"] = changed_map
    result = run("replay", out / "receipt.json", "--json")
    assert result.exit_code == 1
    [answer] = json.loads(result.stdout)["answers"]
    assert answer["picture"] == str(tmp_path / f"{stem}.png")
    assert 0 < answer["relative"] < 1e-6


def test_errors_are_compared_too(run: Any, server: FakeServer, tmp_path: Path) -> None:
    def failing(request: pb.ExplainRequest) -> pb.ExplainResponse:
        response = explain(request)
        response.results[0].explanation.attributions[0].error.CopyFrom(NOT_APPLICABLE.status())
        return response

    for name, content in (("a", b"a"), ("empty", b"")):
        (tmp_path / f"{name}.png").write_bytes(content)
    server.answers["Explain"] = failing
    out = tmp_path / "maps"
    pictures = [tmp_path / "a.png", tmp_path / "empty.png"]
    command = ["explain", *pictures, "--method", "grad-cam", "--method", "saliency"]
    assert run(*command, "--out", out).exit_code == 1
    result = run("replay", out / "receipt.json")
    assert result.exit_code == 0
    outcomes = [line.rpartition("  ")[2].strip() for line in result.stdout.splitlines()[1:]]
    assert outcomes[:3] == ["the same error", "equal", "the same error"]

    server.answers["Explain"] = explain
    result = run("replay", out / "receipt.json")
    assert result.exit_code == 1
    assert "had an error: Layer fc of pets@1 cannot be used so" in result.stdout

    assert run(*command, "--out", out, "--overwrite").exit_code == 1
    server.answers["Explain"] = failing
    result = run("replay", out / "receipt.json")
    assert result.exit_code == 1
    assert "has an error now: Layer fc of pets@1 cannot be used so" in result.stdout


def test_answers_that_came_or_went(run: Any, server: FakeServer, receipt: Path) -> None:
    def other(request: pb.ExplainRequest) -> pb.ExplainResponse:
        response = explain(request)
        response.results[0].explanation.attributions[0].ClearField("target_index")
        return response

    server.answers["Explain"] = other
    result = run("replay", receipt)
    assert result.exit_code == 1
    assert "is not there any more" in result.stdout and "was not there" in result.stdout


def test_a_partial_answer_says_why_it_differs(
    run: Any, server: FakeServer, photo: Path, tmp_path: Path
) -> None:
    def partial(request: pb.ExplainRequest) -> pb.ExplainResponse:
        response = changed(request)
        response.results[0].explanation.attributions[0].attribution.is_partial = True
        return response

    server.answers["Explain"] = partial
    targets = ["--target", "cat", "--target", "dog"]
    run("explain", photo, *METHODS, *targets, "--out", tmp_path / "maps")
    server.answers["Explain"] = explain
    result = run("replay", tmp_path / "maps" / "receipt.json")
    assert "differs in map; the time was over then before it was done" in result.stdout


def test_a_network_that_is_not_served_any_more(run: Any, server: FakeServer, receipt: Path) -> None:
    reason = ErrorReason.ERROR_REASON_NETWORK_NOT_FOUND
    server.answers["Explain"] = Failure(reason, network="pets@1", served="pets@2")
    result = run("replay", receipt)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "convlens: No network pets@1 is served; served are: pets@2.\n"


def edited(text: str, *path: Any, to: Any = None) -> str:
    """The receipt with one value changed, or left out."""
    document = json.loads(text)
    place = document
    for key in path[:-1]:
        place = place[key]
    if to is None:
        del place[path[-1]]
    else:
        place[path[-1]] = to
    return json.dumps(document)


PICTURE = ("calls", 0, "pictures", 0)
ANSWER = (*PICTURE, "answers", 0)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text[:100], "is no receipt of convlens explain"),
        (lambda text: text[:100], ": it is no JSON, or was cut off."),
        (lambda text: "[" * 10**5, ": it is no JSON, or was cut off."),
        (lambda text: "[1]", "the file is [1]; it must be an object"),
        (lambda text: "{}", "it lacks 'format' in the file."),
        (lambda text: edited(text, "format", to=["x"]), 'format is ["x"]; it must be a text'),
        (
            lambda text: edited(text, "format", to="x"),
            "its format is 'x', not 'convlens ex",
        ),
        (lambda text: edited(text, "calls", to=3), ": it has no calls."),
        (lambda text: edited(text, "calls", to=[3]), "calls[0] is 3; it must be an object"),
        (lambda text: edited(text, "calls", 0, "receipt", to=[]), "calls[0].receipt is []; it mu"),
        (
            lambda text: edited(text, "calls", 0, "receipt", "parameters", to=3),
            "calls[0].receipt.parameters is 3; it must be an object",
        ),
        (lambda text: edited(text, "calls", 0, "pictures", to=[]), "0 pictures and 1 true regions"),
        (lambda text: edited(text, *PICTURE, to=3), "pictures[0] is 3; it must be an object"),
        (lambda text: edited(text, *PICTURE, "path", to=3), "pictures[0].path is 3; it must be a"),
        (lambda text: edited(text, *PICTURE, "path_hex", to="x"), 'path_hex is "x"; it must be h'),
        (lambda text: edited(text, *PICTURE, "error", to="x"), '.error is "x"; it must be an obj'),
        (lambda text: edited(text, *PICTURE, "error", to={}), "it lacks 'reason' in calls[0].pic"),
        (lambda text: edited(text, *PICTURE, "answers", to={}), "answers is {}; it must be a list"),
        (lambda text: edited(text, *ANSWER, to="x"), 'answers[0] is "x"; it must be an object'),
        (
            lambda text: edited(text, *ANSWER, "arrays", to=[None] * 99),
            "answers[0].arrays is [null, null, null, null, null, null, nul…; it must be an object",
        ),
        (
            lambda text: text.replace('"arrays": {', '"arrays": null, "were": {'),
            "calls[0].pictures[0].answers[0].arrays is null; it must be an object",
        ),
        (lambda text: edited(text, *ANSWER, "arrays", "map", to=3), 'arrays["map"] is 3; it must'),
        (
            lambda text: edited(text, *ANSWER, "target", to="star"),
            'answers[0].target is "star"; it must be an object or null',
        ),
        (lambda text: edited(text, *ANSWER, "target", to={"a": 1}), "it lacks 'label' in calls[0]"),
        (lambda text: edited(text, *ANSWER, "files", to=3), "files is 3; it must be an object"),
        (lambda text: edited(text, *ANSWER, "files", "npy", to=3), 'files["npy"] is 3; it must be'),
        (
            lambda text: edited(text, *ANSWER, "method_index", to=True),
            "method_index is true; it must be a whole number",
        ),
        (
            lambda text: edited(text, *ANSWER, "target_index", to=0.5),
            "target_index is 0.5; it must be a whole number or null",
        ),
        (lambda text: edited(text, *ANSWER, "is_partial", to=0), "is_partial is 0; it must be tr"),
        (lambda text: edited(text, "calls", to=[]), "it has no calls"),
        (lambda text: edited(text, "calls", 0, "receipt"), "it lacks 'receipt'"),
        (lambda text: edited(text, "calls", 0, "receipt", "threads", to="x"), "threads"),
        (lambda text: edited(text, "calls", 0, "receipt", "parameters"), "it is of a call without"),
        (lambda text: edited(text, "calls", 0, "pictures", 0, "path"), "it lacks 'path'"),
        (lambda text: edited(text, *ANSWER, "arrays"), "it lacks 'arrays'"),
        (lambda text: edited(text, *ANSWER, "method_index"), "it lacks 'method_index'"),
    ],
)
def test_what_is_no_receipt(
    run: Any, server: FakeServer, receipt: Path, change: Any, said: str
) -> None:
    receipt.write_text(change(receipt.read_text()))
    before = len(server.requests)
    result = run("replay", receipt)
    assert (result.exit_code, result.stdout) == (1, "")
    [line] = result.stderr.splitlines()
    assert line.startswith(f"convlens: {receipt}") and said in line
    assert len(server.requests) == before


def test_no_receipt(run: Any, tmp_path: Path) -> None:
    result = run("replay", tmp_path / "receipt.json")
    assert result.exit_code == 1
    assert result.stderr.endswith("receipt.json cannot be read: No such file or directory.\n")
    assert run("replay").exit_code == 2
