"""Servers of these tests end at once."""

import pytest

from convlens.server import gateway


@pytest.fixture(autouse=True)
def quick_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway, "LINGER_SECONDS", 0)
