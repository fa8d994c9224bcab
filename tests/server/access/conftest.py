"""A server whose callers have tokens."""

from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from convlens.server import gateway as gateways


@pytest.fixture(autouse=True)
def no_lingering(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody calls any more when these servers stop."""
    monkeypatch.setattr(gateways, "LINGER_SECONDS", 0.0)


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    """Where the file of tokens is."""
    return tmp_path / "tokens.yaml"


@pytest.fixture
async def closing() -> AsyncIterator[list[grpc.aio.Channel]]:
    """Channels that are closed when the test ends."""
    channels: list[grpc.aio.Channel] = []
    yield channels
    for channel in channels:
        await channel.close()
