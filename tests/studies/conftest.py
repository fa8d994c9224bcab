"""A real server for studies, and folders of drawn shapes."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from convlens.client import Client
from convlens.client.cli._program import program
from convlens.workers.shapes.folder import write_folder


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
