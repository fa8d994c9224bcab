"""A real server for studies, and folders of drawn shapes."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from click.testing import CliRunner, Result
from safetensors.torch import save_file

from convlens.client import Client
from convlens.client.cli._program import program
from convlens.workers.shapes.folder import write_folder
from convlens.workers.shapes.network import load
from tests.conftest import running_server

CHECKPOINTS = Path(__file__).parents[2] / "docs/studies/checkpoints.yaml"


@pytest.fixture(scope="session")
def address(servers: Callable[[str], Any]) -> str:
    """Where the bundled networks are served; of all tests of the session."""
    return servers("embedded").address


@pytest.fixture(scope="session")
def client(address: str) -> Iterator[Client]:
    with Client(address) as opened:
        yield opened


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 shapes that no network was trained on, each in the folder of its class; read only."""
    return draw_shapes(tmp_path_factory.mktemp("studies") / "shapes", 40)


def draw_shapes(folder: Path, count: int, first: int = 0) -> Path:
    """So many drawn shapes, FOLDER/CLASS/0000.png, and factors.csv beside them."""
    write_folder(folder, count, first)
    return folder


@pytest.fixture
def run(address: str) -> Callable[..., Result]:
    """Runs `convlens study …` in this process; it asks the real server."""

    def invoke(*arguments: Any) -> Result:
        environment = {"CONVLENS_SERVER": address}
        given = ["study", *map(str, arguments)]
        return CliRunner().invoke(program, given, env=environment, catch_exceptions=False)

    return invoke


@pytest.fixture(scope="session")
def training(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """Serves the checkpoints of docs/studies/checkpoints.yaml, and networks in bad health.

    "repeated" has each of 4 first filters 6 times; "lame" has a dead unit and one that is always
    on in its first layer; "burst" has a unit there that is infinite.
    """
    folder = tmp_path_factory.mktemp("training")
    config = yaml.safe_load(CHECKPOINTS.read_text("utf-8"))
    for name, broken in (("repeated", _repeat), ("lame", _lame), ("burst", _burst)):
        state = dict(load().state_dict())
        state["features.0.weight"], state["features.0.bias"] = broken(
            state["features.0.weight"].clone(), state["features.0.bias"].clone()
        )
        file = folder / f"{name}.safetensors"
        save_file(state, file)
        config["networks"].append({"name": name, "builder": "bundled:shapes", "weights": str(file)})
    file = folder / "networks.yaml"
    file.write_text(yaml.safe_dump(config))
    with running_server(networks=file) as server, Client(server.address) as opened:
        yield opened


def _repeat(weight: torch.Tensor, bias: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return weight[[0, 3, 8, 13]].repeat(6, 1, 1, 1), bias


def _lame(weight: torch.Tensor, bias: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    bias[5], bias[7] = -1000, 1000
    return weight, bias


def _burst(weight: torch.Tensor, bias: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    bias[2] = torch.inf
    return weight, bias
