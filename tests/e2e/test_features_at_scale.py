"""Codes for many: callers with different layers and networks at once, and folders of any size."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import psutil
import pytest
from click.testing import CliRunner

from convlens.client import Client, LayerSelection
from convlens.client.cli._program import program
from convlens.v1 import feature_pb2, feature_pb2_grpc
from convlens.v1.image_pb2 import Image
from convlens.v1.network_pb2 import GetNetworkRequest
from convlens.v1.network_pb2_grpc import NetworkServiceStub
from tests.conftest import RunningServer, running_server, server_process
from tests.e2e.test_features import array

INPUT = "{size: 64, mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5]}"
ZOO = f"""\
networks:
- name: shapes
- {{name: shuffle, builder: 'torchvision:shufflenet_v2_x0_5', weights: random, input: {INPUT}}}
- {{name: squeeze, builder: 'torchvision:squeezenet1_1', weights: random, input: {INPUT}}}
"""
VECTOR = [feature_pb2.POOLING_NONE, feature_pb2.POOLING_FLATTEN]
NETWORKS = ("shapes", "shuffle", "squeeze")


@pytest.fixture(
    scope="module", params=["embedded", pytest.param("triton-local", marks=pytest.mark.slow)]
)
def zoo(request: pytest.FixtureRequest, tmp_path_factory: Any) -> Iterator[RunningServer]:
    """A server with three networks."""
    file = tmp_path_factory.mktemp("zoo") / "networks.yaml"
    file.write_text(ZOO)
    with running_server(engine=request.param, networks=file) as server:
        yield server


def requests(
    stub: NetworkServiceStub, images: list[Image], count: int
) -> Iterator[feature_pb2.ExtractFeaturesRequest]:
    """Requests of one to three pictures for one to three layers, in turn of each network."""
    generator = np.random.default_rng(0)
    answers = [stub.GetNetwork(GetNetworkRequest(network=name)) for name in NETWORKS]
    readable = [
        [layer for layer in answer.network.anatomy.layers if layer.supports_features]
        for answer in answers
    ]
    for number in range(count):
        wanted: list[feature_pb2.LayerSelection] = []
        for _ in range(generator.integers(1, 4)):
            layers = readable[number % len(NETWORKS)]
            layer = layers[generator.integers(len(layers))]
            poolings = feature_pb2.Pooling.values() if len(layer.output_shape) == 3 else VECTOR
            wanted.append(
                feature_pb2.LayerSelection(
                    layer=layer.name,
                    pooling=poolings[generator.integers(len(poolings))],
                    l2_normalize=bool(generator.integers(2)),
                )
            )
        chosen = generator.integers(len(images), size=generator.integers(1, 4))
        yield feature_pb2.ExtractFeaturesRequest(
            network=NETWORKS[number % len(NETWORKS)],
            images=[images[index] for index in chosen],
            layers=wanted,
        )


def test_64_mixed_requests_get_what_each_gets_alone(
    zoo: RunningServer, pictures: list[Path]
) -> None:
    images = [Image(encoded=path.read_bytes()) for path in pictures]
    with zoo.channel() as channel:
        stub: Any = feature_pb2_grpc.FeatureServiceStub(channel)
        asked = list(requests(NetworkServiceStub(channel), images, 64))
        alone = [stub.ExtractFeatures(each, timeout=30) for each in asked]
        with ThreadPoolExecutor(64) as executor:
            together = list(executor.map(lambda r: stub.ExtractFeatures(r, timeout=60), asked))
    compared = 0
    for one, many in zip(alone, together, strict=True):
        assert one.receipt.request_digest == many.receipt.request_digest
        for left, right in zip(one.results, many.results, strict=True):
            for a, b in zip(left.features.codes, right.features.codes, strict=True):
                first, second = array(a.values), array(b.values)
                assert np.abs(first - second).max() <= 1e-5 * np.abs(first).max()
                compared += 1
    assert compared > 128


@pytest.fixture(scope="module")
def own_server() -> Iterator[tuple[int, str]]:
    """A server that has a process, and thus a memory, of its own: its pid and address."""
    with server_process() as (process, address):
        yield process.pid, address


def test_a_stream_of_any_length_takes_constant_memory(
    own_server: tuple[int, str], pictures: list[Path], capsys: Any
) -> None:
    pid, address = own_server
    processes = [psutil.Process(os.getpid()), psutil.Process(pid)]

    def memory() -> list[int]:
        return [process.memory_info().rss for process in processes]

    def source(count: int) -> Iterator[bytes]:
        for number in range(count):
            yield pictures[number % len(pictures)].read_bytes()

    received = 0
    with Client(address) as client:
        # Maps of 1.5 MiB; the first hundred fill what is used again and again.
        list(client.extract_features_stream(source(100), "features.0", in_flight=16))
        before = memory()
        for features in client.extract_features_stream(source(500), "features.0", in_flight=16):
            received += features[0].nbytes
        after = memory()
    grown = [b - a for a, b in zip(before, after, strict=True)]
    with capsys.disabled():
        sizes = ", ".join(f"{each / 2**20:+.0f} MiB" for each in grown)
        print(f"\n{received / 2**20:.0f} MiB of codes: client and server grew by {sizes}")
    assert received == 500 * 24 * 128 * 128 * 4
    assert max(grown) < received / 5


def test_the_sdk_and_the_command_give_what_the_server_computes(
    own_server: tuple[int, str], pictures: list[Path], tmp_path: Path
) -> None:
    _, address = own_server
    layers = ["cnn-code", LayerSelection("features.9", "max")]
    with Client(address) as client:
        found = client.extract_features(pictures, layers)
        streamed = list(client.extract_features_stream(pictures, layers))
    for one, other in zip(found, streamed, strict=True):
        for number in range(2):
            scale = np.abs(one[number]).max()
            assert np.abs(one[number] - other[number]).max() <= 1e-5 * scale
    out = tmp_path / "codes.npz"
    folder = str(pictures[0].parent)
    arguments = ["extract", folder, "--layers", "cnn-code,features.9:max", "--out", str(out)]
    result = CliRunner().invoke(program, [*arguments, "--server", address])
    assert result.exit_code == 0, result.output
    with np.load(out) as file:
        assert file["pictures"].tolist() == [str(path) for path in pictures]
        assert np.allclose(file["cnn-code"], [each["cnn-code"] for each in found], atol=1e-4)
        expected = [each.codes[1].positions for each in found]
        assert (file["features.9:max.positions"] == expected).mean() > 0.99


# In short form with a FakeServer in tests/clients/cli/test_extract_resumed.py.
@pytest.mark.slow
def test_a_server_that_is_killed_amid_a_folder_is_waited_for(
    pictures: list[Path], tmp_path: Path
) -> None:
    """The command's own retries bridge a restart of the server at the same address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(400):
        source = pictures[number % len(pictures)]
        (folder / f"{number:03}{source.suffix}").write_bytes(source.read_bytes())
    out = tmp_path / "codes.npz"
    command = [sys.executable, "-m", "convlens.client.cli", "extract", str(folder)]
    command += ["--layers", "cnn-code", "--server", address, "--out", str(out)]
    journal = tmp_path / "codes.npz.partial/journal.jsonl"
    with server_process("--listen", address) as (server, _):
        extract = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        while not journal.exists() or journal.read_text().count("\n") < 20:
            assert extract.poll() is None
        server.kill()
        server.wait()
    done = journal.read_text().count("\n")
    assert done < 400
    with server_process("--listen", address):
        assert extract.wait(60) == 0
    with np.load(out) as file:
        codes = file["cnn-code"]
    assert codes.shape == (400, 128)
    count = len(pictures)
    assert np.allclose(codes, codes[np.arange(400) % count], atol=1e-4)


def test_logits_are_those_of_classify_on_every_network(
    zoo: RunningServer, pictures: list[Path]
) -> None:
    with Client(zoo.address) as client:
        there = client.extract_features(pictures[:4], "logits", network="squeeze")
        best = client.classify(pictures[:4], network="squeeze", top_k=1)
    for features, answer in zip(there, best, strict=True):
        assert int(features["logits"].argmax()) == answer.top.index


def test_grpc_is_told_of_a_network_that_is_not_there(zoo: RunningServer) -> None:
    with zoo.channel() as channel, pytest.raises(grpc.RpcError) as caught:
        stub: Any = feature_pb2_grpc.FeatureServiceStub(channel)
        message = feature_pb2.ExtractFeaturesRequest(
            network="other",
            images=[Image(encoded=b"x")],
            layers=[feature_pb2.LayerSelection(layer="logits")],
        )
        stub.ExtractFeatures(message, timeout=20)
    error: Any = caught.value
    assert error.code() == grpc.StatusCode.NOT_FOUND
