"""How a worker is, as it tells whoever it answers."""

import os
import time

import psutil

from convlens.internal.v1.job_pb2 import Job
from convlens.workers.clock import Clocks
from convlens.workers.triton import vitals
from convlens.workers.triton.vitals import Told
from tests.workers.test_intake import intake, ticket


def test_a_worker_tells_how_it_is_now_and_then(monkeypatch) -> None:
    clocks = Clocks()
    clocks.times(Job(sent_us=time.monotonic_ns() // 1000 - 3_000_000, clock="a"))
    with intake() as (made, _):
        told = Told(made, clocks)
        waiting = [ticket([]) for _ in range(3)]
        waiting[0].arrived -= 2
        for each in waiting:
            made.submit(each)
        first = told.news("a")
        assert first
        assert (first.queued, round(first.oldest_us / 1e6)) == (3, 2)
        assert round(first.clock_offset_us / 1e6) == 3
        resident = psutil.Process(os.getpid()).memory_info().rss
        assert abs(first.process_bytes - resident) < resident / 5
        # Each server is told, each now and then.
        assert told.news("a") is None
        assert told.news("b") is not None
        monkeypatch.setattr(vitals, "PAUSE_SECONDS", 0.0)
        later = Told(made, clocks)
        assert later.news("a") and later.news("a")
    assert made.oldest_seconds == 0
