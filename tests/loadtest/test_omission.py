"""A server that stands still is seen to, by all who would have asked meanwhile."""

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path

from convlens.client.testing import FakeServer
from tests.loadtest.conftest import Run

STALL = 1.0


def stalling(fake: FakeServer) -> None:
    """From half a second after the first request of the load on, stands still for a second."""
    usual = fake.answers["Classify"]
    began: list[float] = []
    lock = threading.Lock()

    def answer(request):
        with lock:
            began.append(time.monotonic())
        # The first requests are the trials before the load.
        since = time.monotonic() - began[min(2, len(began) - 1)]
        if len(began) > 2 and 0.5 < since < 0.5 + STALL:
            time.sleep(0.5 + STALL - since)
        return usual(request) if callable(usual) else usual

    fake.answers["Classify"] = answer


def test_an_open_loop_shows_a_stall_and_a_closed_one_hides_it(
    fake: FakeServer, invoke: Run, scenario: Callable[..., Path]
) -> None:
    stalling(fake)
    calls = {"crowd": {"rpc": "Classify"}, "one": {"rpc": "Classify"}}
    phase = {
        "name": "stall",
        "duration": 3,
        "open": {"rate": 40, "arrivals": "constant", "mix": {"crowd": 1}},
        "closed": {"callers": 1, "think_time": 0.01, "mix": {"one": 1}},
    }
    result = invoke(scenario(phase, calls=calls), "--server", fake.address, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)["calls"]
    crowd, one = found["crowd"]["latency"], found["one"]["latency"]
    # A third of all was due while nobody answered: they waited from a second down to nothing.
    assert crowd["count"] == 120
    assert crowd["p99"] > 0.85 * STALL
    assert crowd["p75"] > 0.1 * STALL
    # The other two thirds did not, but for what a busy machine adds.
    assert crowd["p50"] < 0.25 * STALL
    # One caller who waits for his answer saw it once.
    assert one["count"] > 100
    assert one["max"] > 0.85 * STALL
    assert one["p99"] < 0.3 * STALL
