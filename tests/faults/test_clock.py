"""The wall clock jumps, by an hour to and fro: time that is left is not told by it."""

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from convlens.client import Client
from convlens.v1.classification_pb2 import ClassifyRequest
from convlens.v1.image_pb2 import Image
from tests.conftest import classification, server_process
from tests.faults.seeds import picture

JUMPS = ("+1h", "-1h", "+30d", "+0")


@pytest.fixture(scope="module")
def clock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file that says by how much the server's wall clock is wrong."""
    file = tmp_path_factory.mktemp("clock") / "offset"
    file.write_text("+0")
    return file


@pytest.fixture(scope="module")
def jumping(clock: Path) -> Iterator[str]:
    """The address of a server with that clock; its monotonic clock is right, as a kernel's is."""
    # Debian's package libfaketime, wherever the architecture has it.
    [library] = Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")
    variables = {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    with server_process("--default-timeout", "5", **variables) as (process, address):
        yield address
    # The library's own, which it clears up only where the process ends by itself.
    for left in Path("/dev/shm").glob(f"*faketime*_{process.pid}"):
        left.unlink()


@pytest.mark.parametrize("timeout", [None, 5.0])
def test_calls_are_answered_whatever_the_clock_says(
    clock: Path, jumping: str, timeout: float | None
) -> None:
    request = ClassifyRequest(images=[Image(encoded=picture())])
    with grpc.insecure_channel(jumping) as channel:
        stub = classification(channel)
        for jump in JUMPS:
            clock.write_text(jump)
            answer = stub.Classify(request, timeout=timeout)
            assert answer.results[0].HasField("classification"), jump


def test_a_stream_goes_on_while_the_clock_jumps(clock: Path, jumping: str) -> None:
    def slowly() -> Iterator[bytes]:
        for jump in JUMPS:
            yield picture()
            clock.write_text(jump)
            yield picture()

    with Client(jumping, timeout=20) as client:
        answers = list(client.classify_stream(slowly()))
    assert len(answers) == 2 * len(JUMPS)
    assert all(answer.top.label for answer in answers)
