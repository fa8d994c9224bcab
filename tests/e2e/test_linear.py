"""The lecture's linear classifier behind a server: plain numbers in, the lecture's numbers out."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from convlens.client import Client, ImageInput, InvalidImage, InvalidRequest, RobustnessDone
from convlens.client.methods import FGSM
from tests.conftest import RunningServer, running_server

X = np.array([2, -1, 3, -2, 2, 2, 1, -4, 5, 1], np.float32)
W = [-1.0, -1.0, 1.0, -1.0, 1.0, -1.0, 1.0, 1.0, -1.0, 1.0]
MOVED = [1.5, -1.5, 3.5, -2.5, 2.5, 1.5, 1.5, -3.5, 4.5, 1.5]
CONFIG = """\
networks:
  - name: lecture
    builder: linear
    weights: lecture.safetensors
    labels: ["0", "1"]
"""
PAGE = Path(__file__).parents[2] / "docs/networks.md"
SLOW = pytest.param("triton-local", marks=pytest.mark.slow)


@pytest.fixture(scope="module", params=["embedded", SLOW])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("lecture")
    save_file({"weight": torch.tensor([W])}, folder / "lecture.safetensors")
    (folder / "networks.yaml").write_text(CONFIG)
    with running_server(engine=request.param, networks=folder / "networks.yaml") as running:
        yield running


@pytest.fixture(scope="module")
def client(server: RunningServer) -> Iterator[Client]:
    with Client(server.address) as opened:
        yield opened


@pytest.fixture
def file(tmp_path: Path) -> Path:
    np.save(tmp_path / "x.npy", X)
    return tmp_path / "x.npy"


def chance(client: Client, x: ImageInput) -> float:
    """What the network gives the class 1."""
    found = client.classify(x, network="lecture")
    return next(score.probability or 0 for score in found.classes if score.label == "1")


def test_the_lecture_in_numbers(client: Client, file: Path) -> None:
    assert round(chance(client, X), 4) == 0.0474
    assert chance(client, file) == chance(client, torch.tensor(X)) == chance(client, X)
    for target in (None, "1"):
        verdict = client.attack(X, FGSM(epsilon=0.5), target=target, network="lecture")
        assert verdict.succeeded and verdict.rounded_status == "not_applicable"
        assert verdict.pixels is not None and verdict.pixels.tolist() == MOVED
        assert [round(score.probability or 0, 2) for score in verdict.after] == [0.88, 0.12]
        assert round(chance(client, verdict.pixels), 2) == 0.88
        with pytest.raises(LookupError, match="numbers in `pixels`"):
            _ = verdict.picture


def test_the_page_says_what_is_so(client: Client) -> None:
    page = PAGE.read_text(encoding="utf-8")
    verdict = client.attack(X, FGSM(epsilon=0.5), network="lecture")
    for answer in (client.classify(X, network="lecture"), verdict.pixels, verdict.after[0]):
        assert f"\n{answer}\n" in page


def test_a_stream_of_vectors(client: Client) -> None:
    found = list(client.classify_stream([X, np.array(MOVED), X[:9]], on_error="return"))
    assert [str(each) for each in found[:2]] == ["0 95.3 %, 1 4.7 %", "1 88.1 %, 0 11.9 %"]
    assert isinstance(found[2], InvalidImage)


def test_how_far_the_boundary_is(client: Client) -> None:
    """The score is -3, and moves by 10 epsilon."""
    *_, done = client.evaluate_robustness([("x", X, "0")], FGSM(), epsilons=[0.2, 0.29, 0.31, 0.5])
    assert isinstance(done, RobustnessDone)
    curve = {point.epsilon: point.accuracy for point in done.points if point.attack_index == 0}
    assert curve == {0: 1, 0.2: 1, 0.29: 1, 0.31: 0, 0.5: 0}


def test_what_is_told_of_it(client: Client) -> None:
    network = client.network("lecture")
    assert (network.kind, network.labels, network.input.width) == ("linear", ("0", "1"), 10)
    assert [entry.kind for entry in client.networks()] == ["linear"]


def test_what_is_no_vector_of_its_length_is_refused(client: Client, pictures: list[Path]) -> None:
    for wrong in (X[:9], X[None], pictures[0], X.reshape(2, 5)):
        with pytest.raises(InvalidImage, match=r"Send float32 of shape \[10\], any finite numbers"):
            client.classify(wrong)
    with pytest.raises(InvalidImage, match="NaN or infinite"):
        client.attack(np.full(10, np.nan), FGSM())
    with pytest.raises(InvalidRequest, match="through_resize is for pictures"):
        client.attack(X, FGSM(), through_resize=True)


def convlens(server: RunningServer, *arguments: object) -> str:
    command = [sys.executable, "-m", "convlens.client.cli", *map(str, arguments)]
    environment = {**os.environ, "CONVLENS_SERVER": server.address}
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_the_command_reads_and_writes_vectors(server: RunningServer, file: Path) -> None:
    out = file.parent / "moved"
    told = convlens(server, "attack", file, "--method", "fgsm:epsilon=0.5", "--out", out)
    assert "0          -> 1" in told and "x-fgsm.npy" in told
    assert sorted(path.name for path in out.iterdir()) == ["receipt.json", "x-fgsm.npy"]
    assert np.load(out / "x-fgsm.npy").tolist() == MOVED
    line = json.loads(convlens(server, "classify", out / "x-fgsm.npy", "--json"))
    assert line["classes"][0]["label"] == "1"
    assert "1 of 1 answers are equal" in convlens(server, "replay", out / "receipt.json")
    assert convlens(server, "anatomy").startswith("lecture@1, input 10 plain numbers\n")
