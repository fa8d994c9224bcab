"""The benchmark `stages`: every RPC has a row, and its stages are all of its time."""

import os
from collections.abc import Callable

import pytest

from benchmarks import stages
from benchmarks.common import Address, jpeg_of_60_kb
from tests.conftest import RunningServer


@pytest.fixture(scope="module")
def address(servers: Callable[[str], RunningServer]) -> Address:
    server = servers("embedded")
    return Address(server.address, str(server.gateway.metrics_address), os.getpid())


def test_the_shares_of_every_rpc_add_up_to_one(
    address: Address, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = stages.measured(address, jpeg_of_60_kb(), stages.RPCS, 2, 0.05)
    assert [row.rpc for row in rows] == list(stages.RPCS)
    stages.show("bundled", rows)
    printed = capsys.readouterr().out
    for row in rows:
        assert row.calls >= 2 and row.rpc in printed
        assert sum(row.shares.values()) == pytest.approx(1)
        assert sum(row.stages.values()) == pytest.approx(row.milliseconds)
        # Nothing is counted twice: what is left of a call is no less than nothing.
        assert all(0 <= share < 1 for share in row.shares.values()), row
        assert row.shares["compute"] > 0 and row.shares["outside"] > 0
        assert (row.stages["decode"] > 0.1) == (row.rpc != "Synthesize")


def test_what_the_stages_leave_of_a_call_is_shown() -> None:
    line = {"rpc": "Classify", "calls": 2, "wall": 1.0, "caller": 0.4}
    served = {"queue": 0.02, "decode": 0.04, "compute": 0.2, "encode": 0.02, "call": 0.36}
    row = stages.row_of({**line, "served": served})
    assert row.milliseconds == pytest.approx(200) and row.calls_per_second == 2
    assert row.shares["server"] == pytest.approx(0.2)
    assert row.shares["outside"] == pytest.approx(0.1)
