"""Networks that come and go while a server runs: the same with both engines."""

import pickle
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from convlens.server.metrics.page import every_metric
from convlens.server.triton.fleet import REFRESH_SECONDS
from convlens.v1.classification_pb2 import ClassifyRequest
from convlens.v1.image_pb2 import Image
from convlens.v1.network_pb2 import (
    GetNetworkRequest,
    ListNetworksRequest,
    LoadNetworkRequest,
    UnloadNetworkRequest,
)
from convlens.v1.network_pb2_grpc import NetworkServiceStub
from convlens.workers.shapes import network as shapes
from tests.conftest import ENGINES, RunningServer, classification, running_server
from tests.e2e.shared_triton import wait_until
from tests.e2e.test_bad_input import refusal
from tests.e2e.test_operations import samples

# The first is the default one, though it is not the first of the alphabet.
SERVED = {"shapes@1": 1.0, "other@1": 1.0}
CONFIG = """\
networks:
  - {{name: shapes}}
  - {{name: other, builder: "bundled:shapes"}}
loadable:
  - {{name: shapes, version: early, weights: {early}, traffic_weight: 0}}
  - {{name: shapes, version: broken, weights: {broken}}}
  - {{name: half, builder: "half:build", path: {folder}, input: {input}}}
"""
INPUT = "{size: 8, mean: [0, 0, 0], std: [1, 1, 1]}"
# Triton runs the pools of a network in processes of their own; the second of this one dies.
HALF = """
from pathlib import Path
from torch import nn

def build():
    if b"half@1-analysis" in Path("/proc/self/cmdline").read_bytes():
        raise ValueError("no memory is left")
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 3))
"""


class Opens:
    """Unpickled, it opens a file."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return open, (self.path, "w")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the configuration is, and beside it what it does not name."""
    return tmp_path_factory.mktemp("config")


@pytest.fixture(scope="module", params=ENGINES)
def server(request: pytest.FixtureRequest, folder: Path) -> Iterator[RunningServer]:
    """A server that may load an early checkpoint of its network, and one whose file is none."""
    [*_, early] = sorted(shapes.CHECKPOINTS.glob("*.safetensors"))
    broken = folder / "broken.safetensors"
    broken.write_bytes(b"no weights")
    file = folder / "networks.yaml"
    file.write_text(CONFIG.format(early=early, broken=broken, folder=folder, input=INPUT))
    (folder / "half.py").write_text(HALF)
    opened = str(folder / "opened")
    (folder / "evil.py").write_text(f"open({opened!r}, 'w')\n")
    (folder / "evil.pt").write_bytes(pickle.dumps(Opens(opened)))
    with running_server(engine=request.param, networks=file, loading=True) as running:
        yield running


@pytest.fixture(scope="module")
def networks(server: RunningServer) -> Iterator[Any]:
    with server.channel() as channel:
        yield NetworkServiceStub(channel)


@pytest.fixture(scope="module")
def versions(
    server: RunningServer, pictures: list[Path]
) -> Iterator[Callable[[int, str], list[str]]]:
    """Which versions answer so many calls that name a network so."""
    image = Image(encoded=pictures[0].read_bytes())
    with server.channel() as channel:
        classify = classification(channel).Classify

        def answered(count: int, network: str) -> list[str]:
            request = ClassifyRequest(network=network, images=[image])
            return [classify(request, timeout=20).receipt.network_version for _ in range(count)]

        yield answered


def served(networks: Any) -> dict[str, float]:
    listed = networks.ListNetworks(ListNetworksRequest(), timeout=10).networks
    return {f"{entry.name}@{entry.version}": entry.traffic_weight for entry in listed}


def load(networks: Any, reference: str, weight: float | None = None) -> Any:
    request = LoadNetworkRequest(network=reference, traffic_weight=weight)
    return networks.LoadNetwork(request, timeout=60).network


def unload(networks: Any, reference: str) -> None:
    networks.UnloadNetwork(UnloadNetworkRequest(network=reference), timeout=60)


def test_a_second_version_comes_gets_its_share_and_goes(networks: Any, versions: Any) -> None:
    assert served(networks) == SERVED
    loaded = load(networks, "shapes@early")
    assert (loaded.name, loaded.version, loaded.traffic_weight) == ("shapes", "early", 0.0)
    assert served(networks) == {**SERVED, "shapes@early": 0.0}
    # With the weight 0 only those who name it reach it.
    assert set(versions(20, "shapes")) == {"1"}
    assert set(versions(2, "shapes@early")) == {"early"}
    assert load(networks, "shapes@early", weight=1).traffic_weight == 1.0
    assert served(networks) == {**SERVED, "shapes@early": 1.0}
    assert 15 <= versions(60, "shapes").count("early") <= 45
    # Left out, the weight is the configuration's, also where it was another one.
    assert load(networks, "shapes@early").traffic_weight == 0.0
    assert served(networks) == {**SERVED, "shapes@early": 0.0}
    # One call rolls back, and may be made twice.
    for _ in range(2):
        unload(networks, "shapes@early")
        assert served(networks) == SERVED
    assert set(versions(20, "shapes")) == {"1"}


@pytest.mark.parametrize("reference", ["shapes@1", "shapes", "other@1", "alexnet@1", "shapes@9"])
def test_only_the_allow_list_is_loaded_and_unloaded(networks: Any, reference: str) -> None:
    full = reference if "@" in reference else f"{reference}@1"
    for change in (load, unload):
        failure = refusal(lambda change=change: change(networks, reference))
        assert failure.metadata == {
            "network": full,
            "detail": "the allow list has shapes@early, shapes@broken, half@1",
        }
    assert served(networks) == SERVED


@pytest.mark.parametrize(
    "reference",
    [
        "torchvision:resnet18",
        "half:build",
        "half:build@1",
        "os:getcwd@1",
        "evil:build@1",
        "early.safetensors@1",
        "{folder}/evil.pt@1",
        "../evil.pt@1",
        "file://{folder}/evil.pt@1",
        "shapes@../evil",
        "shapes@early/../../evil",
        "__import__('half')@1",
        "!!python/object/apply:os.getcwd []@1",
    ],
)
def test_a_request_can_name_nothing_that_runs_or_is_read(
    networks: Any, folder: Path, reference: str
) -> None:
    """Builders, files and pickles stand in the configuration alone."""
    for change in (load, unload):
        given = reference.format(folder=folder)
        failure = refusal(lambda change=change, given=given: change(networks, given))
        detail = failure.metadata.get("detail", "")
        assert detail == "the allow list has shapes@early, shapes@broken, half@1"
    assert not (folder / "opened").exists()
    assert served(networks) == SERVED


def test_a_network_that_does_not_load_is_said_and_harms_nobody(
    networks: Any, versions: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    failure = refusal(lambda: load(networks, "shapes@broken"))
    assert failure.metadata["network"] == "shapes@broken"
    detail = failure.metadata["detail"]
    assert "header" in detail, "the reason that safetensors gives"
    assert len(detail.splitlines()) == 1
    assert ".py" not in detail
    assert served(networks) == SERVED
    assert set(versions(2, "")) == {"1"}


def test_the_first_of_the_file_answers_where_none_is_named(networks: Any) -> None:
    network = networks.GetNetwork(GetNetworkRequest(), timeout=10).network
    assert (network.name, network.version) == ("shapes", "1")


def test_nothing_is_left_of_an_unloaded_network(server: RunningServer, networks: Any) -> None:
    """But what was counted of it."""
    gauges = tuple(each.name for each in every_metric() if each.kind == "gauge")

    def shown() -> set[str]:
        return {name for name in samples(server) if "early" in name and name.startswith(gauges)}

    load(networks, "shapes@early")
    # A worker of Triton tells of itself once it answers.
    wait_until(lambda: bool(shown()))
    unload(networks, "shapes@early")
    wait_until(lambda: not shown())


# Only Triton's pools load a network each: both of the embedded engine share one. With a FakeTriton
# it is tested by default.
@pytest.mark.slow
@pytest.mark.parametrize("server", ["triton-local"], indirect=True)
def test_a_network_of_which_a_part_does_not_load_is_not_served(
    server: RunningServer, networks: Any
) -> None:
    failure = refusal(lambda: load(networks, "half@1"))
    assert "raised ValueError: no memory is left" in failure.metadata["detail"]
    # As long as it takes the server to look at what is loaded.
    time.sleep(REFRESH_SECONDS + 0.5)
    assert served(networks) == SERVED
    [replica] = server.engine._fleet.replicas()
    assert not [model for model in server.run(replica.look()) if "half" in model]
