"""Deadlines hold although server and worker have no clock in common."""

import time

import pytest

from convlens.internal.v1.job_pb2 import Job
from convlens.workers.clock import SERVERS, Clocks


def job(remaining: float, sent_ago: float, offset: float, clock: str = "a") -> Job:
    """A job sent `sent_ago` seconds ago by a server whose clock is `offset` behind ours."""
    sent = time.monotonic() - sent_ago - offset
    return Job(remaining_us=round(remaining * 1e6), sent_us=round(sent * 1e6), clock=clock)


@pytest.mark.parametrize("offset", [0.0, 1e6, -1e6])
def test_what_the_clocks_have_to_do_with_each_other_falls_out(offset: float) -> None:
    clocks = Clocks()
    clocks.times(job(10, 0, offset))
    arrived, deadline = clocks.times(job(10, 4, offset))
    now = time.monotonic()
    assert arrived == pytest.approx(now - 4, abs=0.2)
    assert deadline == pytest.approx(now + 6, abs=0.2)


def test_a_faster_job_teaches_how_long_others_waited() -> None:
    clocks = Clocks()
    clocks.times(job(10, 5, 100))
    clocks.times(job(10, 1, 100))
    _, deadline = clocks.times(job(10, 3, 100))
    assert deadline == pytest.approx(time.monotonic() + 8, abs=0.2)


@pytest.mark.parametrize("offset", [1e6, -1e6])
def test_the_offset_of_a_servers_clock_is_that_of_the_fastest_job(offset: float) -> None:
    clocks = Clocks()
    for sent_ago in (2.0, 0.5, 4.0):
        clocks.times(job(10, sent_ago, offset))
    assert clocks.offset_us("a") / 1e6 == pytest.approx(offset + 0.5, abs=0.1)
    assert clocks.offset_us("of a stranger") == 0


def test_servers_do_not_disturb_each_other() -> None:
    clocks = Clocks()
    clocks.times(job(10, 0, -5000, "b"))
    _, deadline = clocks.times(job(10, 0, 5000, "a"))
    assert deadline == pytest.approx(time.monotonic() + 10, abs=0.2)


def test_clocks_that_drift_apart_are_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("convlens.workers.clock.WINDOW_SECONDS", 0.05)
    clocks = Clocks()
    clocks.times(job(10, 0, -50))
    deadline = 0.0
    for _ in range(3):
        time.sleep(0.06)
        _, deadline = clocks.times(job(10, 0, 70))
    assert deadline == pytest.approx(time.monotonic() + 10, abs=0.2)


def test_servers_that_came_and_went_are_forgotten() -> None:
    clocks = Clocks()
    for number in range(SERVERS + 10):
        clocks.times(job(10, 0, 0, f"server-{number}"))
    assert len(clocks._servers) == SERVERS
