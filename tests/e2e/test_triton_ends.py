"""Triton itself dies: it is started again, nothing of the old one stays, and callers may retry."""

import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from structlog.testing import capture_logs

from convlens.server.triton import proc, shm
from convlens.server.triton.home import MARK
from convlens.v1.classification_pb2 import ClassifyRequest
from convlens.v1.image_pb2 import Image
from tests.conftest import classification, running_server
from tests.e2e.test_triton_faults import calls_per_second, outcome, triton_of

SERVING = health_pb2.HealthCheckResponse.SERVING
SERVICE = "convlens.v1.ClassificationService"


def test_a_killed_triton_is_started_again_under_load(
    pictures: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    image = Image(encoded=pictures[0].read_bytes())
    with running_server(engine="triton-local") as server, server.channel() as channel:
        addresses: Any = server.engine._addresses
        old, home = triton_of(server), addresses._triton._home.path
        regions = shm.regions_of([old.pid])
        health: Any = health_pb2_grpc.HealthStub(channel)
        stub, said = classification(channel), list[int]()
        with calls_per_second(10, server, image) as seen, capture_logs() as log:
            time.sleep(0.5)
            # Triton alone: its stubs take a dead parent that nobody looked at for a living one.
            assert len(proc.with_variable(MARK, str(home))) == 3
            old.kill()
            killed = time.monotonic()
            while time.monotonic() < killed + 30 and (not said or said[-1] != SERVING):
                status = health.Check(health_pb2.HealthCheckRequest(service=SERVICE)).status
                # Until the death is noticed it still says SERVING.
                if said or status != SERVING:
                    said.append(status)
                time.sleep(0.05)
            request = ClassifyRequest(images=[image])
            assert outcome(lambda: stub.Classify(request, timeout=20)) == "arrow"
            outage = time.monotonic() - killed
        assert not psutil.pid_exists(old.pid), "a zombie is left"
        assert proc.with_variable(MARK, str(home)) == []
        assert (home.exists(), [each for each in regions if each.exists()]) == (False, [])
        assert triton_of(server).pid != old.pid
        folders = [addresses._folder.path, addresses._triton._home.path]
    codes = Counter(text for _, _, text in seen)
    with capsys.disabled():
        print(f"\ntritonserver killed: answering again after {outage:.1f} s, callers saw {codes}")
    assert said[-1] == SERVING
    assert outage < 20
    assert set(codes) <= {"arrow", "WORKER_UNAVAILABLE"}
    events = [line["event"] for line in log]
    assert "Triton ended though nobody stopped it" in events
    assert "Triton started again" in events
    assert not any(folder.exists() for folder in folders)
