"""The bundled network, and a runner for it."""

from collections.abc import Iterator

import pytest
from torch import Tensor

from convlens.workers.catalog import load_network
from convlens.workers.config import NetworkEntry
from convlens.workers.network import ServedNetwork
from convlens.workers.runner import (
    Runner,
)
from tests.workers.runner.jobs import running


@pytest.fixture(scope="module")
def network() -> ServedNetwork:
    return load_network(NetworkEntry(name="shapes"), "cpu")


@pytest.fixture
def shapes(network: ServedNetwork, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The rows of every forward pass that is made."""
    seen: list[int] = []
    scores = network.scores

    def noted(pixels: Tensor) -> Tensor:
        seen.append(len(pixels))
        return scores(pixels)

    monkeypatch.setattr(network, "scores", noted)
    return seen


@pytest.fixture
def runner(network: ServedNetwork) -> Iterator[Runner]:
    with running(network) as made:
        yield made
