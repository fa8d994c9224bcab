"""When requests are due: at the rate, and distributed, as the scenario says."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from convlens.client.testing import FakeServer
from convlens.loadtest.traffic.arrivals import Course, arrivals
from tests.loadtest.conftest import Run


def all_of(course: Course, kind, parts: int = 1) -> np.ndarray:
    """What all processes send together."""
    times = [
        at
        for number in range(parts)
        for at in arrivals(course, kind, np.random.default_rng([7, number]), (number, parts))
    ]
    return np.array(sorted(times))


@pytest.mark.parametrize("parts", [1, 3])
def test_constant_arrivals_are_at_equal_distances(parts: int) -> None:
    found = all_of(Course(50, 50, 10), "constant", parts)
    assert len(found) == 500
    assert np.diff(found) == pytest.approx(0.02, abs=1e-9)
    assert found[0] == 0


@pytest.mark.parametrize("parts", [1, 4])
def test_poisson_arrivals_are_poisson(parts: int) -> None:
    found = all_of(Course(200, 200, 100), "poisson", parts)
    gaps = np.diff(found)
    # 20,000 of them: their number is within 4 standard deviations.
    assert abs(len(found) - 20_000) < 4 * 20_000**0.5
    # Of an exponential distribution, the deviation is the mean, and 1/e of all is above it.
    assert gaps.std() / gaps.mean() == pytest.approx(1, abs=0.04)
    assert (gaps > gaps.mean()).mean() == pytest.approx(np.exp(-1), abs=0.015)
    counts = np.bincount(found.astype(int), minlength=100)
    assert counts.var() / counts.mean() == pytest.approx(1, abs=0.6)


@pytest.mark.parametrize("kind", ["constant", "poisson"])
@pytest.mark.parametrize(("start", "end"), [(10, 90), (90, 10)])
def test_a_ramp_goes_evenly(kind, start: float, end: float) -> None:
    found = all_of(Course(start, end, 100), kind, 2)
    assert len(found) == pytest.approx(5000, rel=0.06)
    # In each tenth as many as the rate in its middle says.
    counts, _ = np.histogram(found, 10, (0, 100))
    rates = [start + (end - start) * (n + 0.5) / 10 for n in range(10)]
    assert counts == pytest.approx(np.array(rates) * 10, rel=0.2)


def test_the_same_seed_gives_the_same_arrivals() -> None:
    assert (all_of(Course(9, 9, 9), "poisson") == all_of(Course(9, 9, 9), "poisson")).all()


def test_the_server_sees_them_so(
    fake: FakeServer, invoke: Run, scenario: Callable[..., Path]
) -> None:
    came: list[float] = []
    usual = fake.answers["Classify"]

    def note(request):
        came.append(time.monotonic())
        return usual(request) if callable(usual) else usual

    fake.answers["Classify"] = note
    path = scenario({"name": "even", "duration": 1, "open": {"rate": 50, "arrivals": "constant"}})
    result = invoke(path, "--server", fake.address, "--processes", 2, "--quiet")
    assert result.exit_code == 0, result.output
    # The first one is the trial before the load.
    gaps = np.diff(sorted(came)[1:])
    assert len(gaps) == 49
    assert np.median(gaps) == pytest.approx(0.02, abs=0.003)
    assert gaps.sum() == pytest.approx(49 * 0.02, abs=0.2)
