"""A log that cannot be written, as on a full disk, keeps nobody from being answered."""

import subprocess
import sys
from pathlib import Path

import grpc
import pytest

from convlens.contract.errors import reason_name
from convlens.v1.classification_pb2 import ClassifyRequest
from convlens.v1.image_pb2 import Image
from tests.conftest import classification
from tests.e2e.test_bad_input import refusal
from tests.faults.seeds import picture
from tests.faults.test_restarts import free_address

CALLS = 200


@pytest.mark.parametrize("form", ["json", pytest.param("console", marks=pytest.mark.slow)])
def test_calls_are_answered_though_the_disk_is_full(form: str) -> None:
    address = free_address()
    command = [sys.executable, "-m", "convlens.server", "--listen", address]
    command += ["--metrics-listen", "off", "--log-format", form, "--log-level", "debug"]
    request = ClassifyRequest(images=[Image(encoded=picture())])
    with Path("/dev/full").open("w") as full, subprocess.Popen(command, stderr=full) as process:
        try:
            with grpc.insecure_channel(address) as channel:
                grpc.channel_ready_future(channel).result(60)
                stub = classification(channel)
                for _ in range(CALLS):
                    [result] = stub.Classify(request, timeout=10).results
                    assert result.HasField("classification")
                failure = refusal(lambda: stub.Classify(ClassifyRequest(), timeout=10))
                assert reason_name(failure.reason) == "INVALID_REQUEST"
        finally:
            process.terminate()
        process.wait(30)
