"""networks.yaml behind a server: what is served, and how its mistakes reach who started it."""

import sys
from pathlib import Path
from typing import Any

import grpc
import pytest

from convlens.client import Client
from convlens.server.main import main
from convlens.v1.network_pb2 import ListPretrainedRequest
from convlens.v1.network_pb2_grpc import NetworkServiceStub
from tests.conftest import ENGINES, RunningServer, running_server

MODULE = """\
from torch import nn

def build(classes):
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                         nn.Linear(8, classes))
"""
OWN = """\
networks:
  - name: own
    builder: MODULE:build
    arguments: {classes: 3}
    labels: labels.txt
    input: {size: 32, mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5]}
    precision: bf16
    channels_last: false
    rows: 5
"""


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Writes networks.yaml beside a module of one's own."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    module = f"served_{abs(hash(tmp_path))}"
    (tmp_path / f"{module}.py").write_text(MODULE)
    (tmp_path / "labels.txt").write_text("cat\ndog\nbird\n")

    def file(text: str) -> Path:
        path = tmp_path / "networks.yaml"
        path.write_text(text.replace("MODULE", module))
        return path

    return file


def test_what_torchvision_offers(server: RunningServer, channel: grpc.Channel) -> None:
    stub: Any = NetworkServiceStub(channel)
    answer = stub.ListPretrained(ListPretrainedRequest(name_contains="vit_h"), timeout=30)
    assert [(entry.network, entry.weights) for entry in answer.weights] == [
        ("vit_h_14", "IMAGENET1K_SWAG_E2E_V1"),
        ("vit_h_14", "IMAGENET1K_SWAG_LINEAR_V1"),
    ]
    assert answer.torchvision_version
    with Client(server.address) as client:
        everything = client.pretrained()
        assert len(everything) > 100
        alexnet = client.pretrained("alexnet")[0]
    assert alexnet.accuracy.top1 == 0.56522
    assert alexnet.input.interpolation == "bilinear"


def errors_of(engine: str, file: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    flags = ["--engine", engine, "--networks", str(file), "--listen", "127.0.0.1:0"]
    assert main([*flags, "--metrics-listen", "off"]) == 1
    error = capsys.readouterr().err
    assert "Traceback" not in error
    prefix = "convlens-server: "
    return [line.removeprefix(prefix) for line in error.splitlines() if line.startswith(prefix)]


@pytest.mark.parametrize("engine", ENGINES)
def test_every_mistake_is_a_line_on_stderr(
    write: Any, engine: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(
        "networks:\n- name: shapes\n  rows: 0\n- {name: x, weights: gone.pth}\n"
        "- name: y\n  builder: MODULE:build\n  weights: gone.pth\npols: {}\n"
    )
    assert errors_of(engine, file, capsys) == [
        f"{file}:3: networks.0.rows: must be greater than or equal to 1 (given: 0)",
        f"{file}:4: networks.1.builder: no bundled network x; there are: shapes, shapes-shortcut, "
        "shapes-robust. Another one needs builder: torchvision:NAME, timm:NAME or MODULE:FUNCTION",
        f"{file}:4: networks.1.weights: there is no file {file.parent}/gone.pth; relative paths "
        "begin at the file's folder",
        f"{file}:7: networks.2.weights: there is no file {file.parent}/gone.pth; relative paths "
        "begin at the file's folder",
        f"{file}:8: pols: unknown key; did you mean pools? Allowed: loadable, networks, pools",
    ]


def test_mistakes_that_only_loading_shows_are_all_told(
    write: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(
        "networks:\n- name: shapes\n  labels: [a]\n- name: shapes\n  version: '2'\n"
        "  arguments: {a: 1}\n- {name: shapes, version: '3'}\n"
    )
    assert errors_of("embedded", file, capsys) == [
        f"{file}:3: shapes@1: labels: there are 1 labels and the network scores 10 classes",
        f"{file}:6: shapes@2: arguments: a bundled network takes none; leave them out",
    ]


@pytest.mark.slow
def test_a_mistake_that_only_loading_shows_is_one_line_of_triton_too(
    write: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write("networks:\n- name: shapes\n  labels: [a]\n")
    assert errors_of("triton-local", file, capsys) == [
        "shapes@1: labels: there are 1 labels and the network scores 10 classes"
    ]


@pytest.mark.parametrize(
    "engine", ["embedded", pytest.param("triton-local", marks=pytest.mark.slow)]
)
def test_a_network_of_ones_own_is_served(write: Any, engine: str, pictures: list[Path]) -> None:
    with (
        running_server(engine=engine, networks=write(OWN)) as server,
        Client(server.address) as client,
    ):
        network = client.network("own")
        answer = client.classify(pictures[0])
    assert network.labels == ("cat", "dog", "bird")
    assert (network.rows, network.channels_last, network.compiled) == (5, False, False)
    assert (network.precision, network.accuracies) == ("bfloat16", ())
    assert network.parity is not None and network.parity.passed
    assert {score.label for score in answer.classes} == {"cat", "dog", "bird"}
    receipt = answer.receipt
    assert (receipt.precision, receipt.channels_last) == ("bfloat16", False)
    assert receipt.network_digest == network.digest
