"""ClassifyStream: in order, past failures, and with the memory of a few pictures."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import psutil
import pytest

from convlens.contract import Failure
from convlens.contract.errors import reason_name
from convlens.v1.classification_pb2 import ClassifyRequest, ClassifyStreamRequest
from convlens.v1.image_pb2 import Image
from convlens.v1.tensor_pb2 import DATA_TYPE_UINT8, Tensor
from tests.conftest import RunningServer, classification, running_server, server_process


def requests(pictures: list[Path], count: int) -> Iterator[ClassifyStreamRequest]:
    for i in range(count):
        image = Image(encoded=pictures[i % len(pictures)].read_bytes())
        yield ClassifyStreamRequest(id=1000 + i, request=ClassifyRequest(images=[image], top_k=1))


def test_answers_come_in_order(channel: grpc.Channel, pictures: list[Path]) -> None:
    stream = classification(channel).ClassifyStream(requests(pictures, 150))
    labels = []
    for i, response in enumerate(stream):
        assert response.id == 1000 + i
        [result] = response.response.results
        labels.append(result.classification.classes[0].label)
    names = [path.name.partition("-")[0] for path in pictures]
    assert labels == [names[i % len(names)] for i in range(150)]


def test_a_failing_request_does_not_end_the_stream(
    channel: grpc.Channel, pictures: list[Path]
) -> None:
    good = ClassifyRequest(images=[Image(encoded=pictures[0].read_bytes())])
    sent = [
        ClassifyStreamRequest(id=1, request=good),
        ClassifyStreamRequest(id=2, request=ClassifyRequest(images=good.images, top_k=0)),
        ClassifyStreamRequest(id=3),
        ClassifyStreamRequest(id=4, request=ClassifyRequest(network="x", images=good.images)),
        ClassifyStreamRequest(id=5, request=good),
    ]
    received = list(classification(channel).ClassifyStream(iter(sent)))
    assert [response.id for response in received] == [1, 2, 3, 4, 5]
    failures = [Failure.from_status(received[i].error) for i in (1, 2, 3)]
    reasons = [reason_name(failure.reason) for failure in failures if failure]
    assert reasons == ["INVALID_REQUEST", "INVALID_REQUEST", "NETWORK_NOT_FOUND"]
    assert received[0].response == received[4].response


def test_a_full_queue_holds_a_stream_back_and_loses_nothing(pictures: list[Path]) -> None:
    with (
        running_server({"inference": {"queue_size": 1}}, stream_window=16) as server,
        server.channel() as channel,
    ):
        received = list(classification(channel).ClassifyStream(requests(pictures, 40)))
    assert [response.id for response in received] == list(range(1000, 1040))
    assert all(response.HasField("response") for response in received)


def test_a_caller_who_does_not_read_is_held_back() -> None:
    produced = 0
    dot = Image(tensor=Tensor(dtype=DATA_TYPE_UINT8, shape=[1, 1, 3], data=bytes(3)))
    large = Image(tensor=Tensor(dtype=DATA_TYPE_UINT8, shape=[600, 600, 3], data=bytes(1_080_000)))
    # A few of these requests, and of their answers, fill what HTTP/2 holds of unread ones.
    request = ClassifyRequest(images=[large, *[dot] * 63], top_k=10)

    def counted() -> Iterator[ClassifyStreamRequest]:
        nonlocal produced
        for produced in range(100_000):
            yield ClassifyStreamRequest(id=produced, request=request)

    fixed = [("grpc.http2.bdp_probe", 0)]
    with (
        running_server(stream_window=4) as server,
        grpc.insecure_channel(server.address, fixed) as channel,
    ):
        stream = classification(channel).ClassifyStream(counted())
        next(stream)
        before = -1
        while before != produced:
            before = produced
            time.sleep(1)
        # What is under way are the windows of the server and of HTTP/2, not the folder.
        assert produced < 100
        stream.cancel()


def memory(pid: int) -> float:
    """Megabytes that a process keeps to itself."""
    return psutil.Process(pid).memory_info().rss / 2**20


# Streams of codes, which are larger, do so by default.
@pytest.mark.slow
def test_a_thousand_pictures_take_the_memory_of_a_few(
    pictures: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    with server_process() as (process, address), grpc.insecure_channel(address) as channel:
        stub = classification(channel)
        for _ in stub.ClassifyStream(requests(pictures, 500)):
            pass
        ours, theirs = memory(psutil.Process().pid), memory(process.pid)
        started = time.monotonic()
        count = sum(1 for _ in stub.ClassifyStream(requests(pictures, 1000)))
        seconds = time.monotonic() - started
        grown = memory(psutil.Process().pid) - ours, memory(process.pid) - theirs
    assert count == 1000
    with capsys.disabled():
        print(
            f"\n1000 pictures: {1000 / seconds:.0f}/s, client +{grown[0]:.1f} MB, "
            f"server {theirs:.0f} MB +{grown[1]:.1f} MB"
        )
    # Their pixels alone would be 200 MB; allocators keep some tens of what they once had.
    assert max(grown) < 80
    assert threading.active_count() < 40


@pytest.mark.slow
def test_a_quiet_stream_is_not_cut_off_for_its_pings(
    server: RunningServer, pictures: list[Path]
) -> None:
    # gRPC ends a connection after two pings that come too soon, and calls may be quiet for minutes.
    options = [("grpc.keepalive_time_ms", 11_000), ("grpc.http2.max_pings_without_data", 0)]

    def late() -> Iterator[ClassifyStreamRequest]:
        time.sleep(50)
        yield from requests(pictures, 1)

    with grpc.insecure_channel(server.address, options) as channel:
        [answer] = classification(channel).ClassifyStream(late(), timeout=90)
    assert answer.HasField("response")
