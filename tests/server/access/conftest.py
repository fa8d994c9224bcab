"""What tests of access share."""

from pathlib import Path

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
