"""A real server for studies, and folders of drawn shapes."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from convlens.client import Client
from convlens.client.cli._program import program
from convlens.workers.shapes.dataset import HELD_OUT, dataset
from convlens.workers.shapes.draw import CLASSES


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
    """So many drawn shapes in a folder, FOLDER/CLASS/0000.png."""
    made = dataset(HELD_OUT[first : first + count])
    for number, (pixels, label) in enumerate(zip(made.images, made.labels, strict=True)):
        file = folder / CLASSES[label] / f"{number:04}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(file)
    return folder


@pytest.fixture
def run(address: str) -> Callable[..., Result]:
    """Runs `convlens study …` in this process; it asks the real server."""

    def invoke(*arguments: Any) -> Result:
        environment = {"CONVLENS_SERVER": address}
        given = ["study", *map(str, arguments)]
        return CliRunner().invoke(program, given, env=environment, catch_exceptions=False)

    return invoke
