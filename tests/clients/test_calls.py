"""Single calls: what is sent, what comes back, deadlines, retries, ends."""

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest

from convlens.client import (
    AsyncClient,
    Client,
    DeadlineExceeded,
    Health,
    ImageFileNotFound,
    Internal,
    InvalidImage,
    InvalidRequest,
    MessageTooLarge,
    NotFound,
    Overloaded,
    Unavailable,
    Unimplemented,
)
from convlens.client.testing import FakeServer
from convlens.contract import ErrorReason, Failure
from convlens.v1 import classification_pb2 as pb
from convlens.v1 import image_pb2, target_pb2

QUEUE_FULL = ErrorReason.ERROR_REASON_QUEUE_FULL


def queue_full(delay: float | None = 0.01) -> Failure:
    return Failure(QUEUE_FULL, retry_after=delay, pool="inference", limit=4)


class FailsFirst:
    """Raises the failures in turn, then answers."""

    def __init__(self, *failures: Failure) -> None:
        self.failures = list(failures)
        self.calls = 0

    def __call__(self, _: Any) -> pb.ClassifyResponse:
        self.calls += 1
        if self.failures:
            raise self.failures.pop(0)
        score = target_pb2.ClassScore(label="cat", probability=1.0)
        result = pb.ClassifyResult(classification=pb.Classification(classes=[score]))
        return pb.ClassifyResponse(results=[result])


def test_one_image_gives_one_result(connect, server):
    result = connect(server.address).call("classify", b"picture", network="pets", top_k=1)
    assert (result.top.label, result.top.index) == ("cat", 0)
    assert result.top.probability == pytest.approx(0.9)
    assert str(result) == "cat 90.0 %"
    assert result.receipt.network == "pets"
    sent = server.requests[0].message
    assert sent == pb.ClassifyRequest(
        network="pets",
        top_k=1,
        images=[image_pb2.Image(encoded=b"picture", geometry=image_pb2.GEOMETRY_NETWORK)],
    )


def test_what_is_left_out_is_left_to_the_server(connect, server):
    connect(server.address).call("classify", b"picture")
    assert not server.requests[0].message.HasField("top_k")
    assert server.requests[0].message.network == ""


def test_a_list_gives_a_list_also_of_one(connect, server):
    client = connect(server.address)
    assert len(client.call("classify", [b"one"])) == 1
    assert [r.top.label for r in client.call("classify", (b"one", b"two"))] == ["cat", "cat"]


def test_a_list_raises_the_first_error_with_its_index(connect, server):
    with pytest.raises(InvalidImage, match=r"^item 1: The image is empty") as caught:
        connect(server.address).call("classify", [b"one", b"", b""])
    assert (caught.value.index, caught.value.reason) == (1, "IMAGE_EMPTY")


def test_a_list_may_return_its_errors_in_their_places(connect, server):
    images = [b"one", "missing.png", b"", b"four"]
    results = connect(server.address).call("classify", images, on_error="return")
    assert [type(r).__name__ for r in results] == [
        "Classification",
        "ImageFileNotFound",
        "InvalidImage",
        "Classification",
    ]
    assert [r.index for r in results[1:3]] == [1, 2]
    assert len(server.requests[0].message.images) == 4


def test_a_missing_file_is_found_before_anything_is_sent(connect, server):
    client = connect(server.address)
    for images in ("missing.png", [b"one", "missing.png"]):
        with pytest.raises(ImageFileNotFound, match=r"There is no file 'missing\.png'"):
            client.call("classify", images)
    assert server.requests == []


def test_an_error_of_a_single_image_has_no_index(connect, server):
    with pytest.raises(InvalidImage, match=r"^The image is empty") as caught:
        connect(server.address).call("classify", b"")
    assert caught.value.index is None


def test_networks(connect, server):
    [summary] = connect(server.address).call("networks")
    assert (summary.name, summary.version, summary.kind) == ("pets", "1", "image")
    assert summary.is_default


def test_network(connect, server):
    client = connect(server.address)
    network = client.call("network", "pets")
    assert network.labels == ("cat", "dog")
    assert (network.input.height, network.precision) == (32, "float32")
    with pytest.raises(NotFound, match="No network zoo is served; served are: pets@1") as caught:
        client.call("network", "zoo")
    assert caught.value.metadata == {"network": "zoo", "served": "pets@1"}


def test_health(connect, server):
    client = connect(server.address)
    assert client.call("health") is Health.SERVING
    client.call("health", "convlens.v1.NetworkService")
    assert server.requests[-1].message.service == "convlens.v1.NetworkService"


def test_every_violation_comes_back(connect, server):
    with pytest.raises(InvalidRequest) as caught:
        connect(server.address).call("classify", [b"x"] * 65, top_k=0)
    assert {(v.field, v.description) for v in caught.value.violations} == {
        ("images", "has 65 entries; must have at most 64"),
        ("top_k", "is 0; must be at least 1 and at most 100000 classes"),
    }


@pytest.mark.parametrize(
    "options", [{"top_k": -1}, {"top_k": "3"}, {"network": 3}, {"on_error": "ignore"}]
)
def test_a_value_that_no_request_holds_is_refused_here(connect, server, options):
    with pytest.raises(InvalidRequest):
        connect(server.address).call("classify", b"x", **options)
    assert server.requests == []


def test_a_deadline_always(connect, server):
    client = connect(server.address)
    client.call("classify", b"x")
    client.call("classify", b"x", timeout=5)
    connect(server.address, timeout=7).call("networks")
    # gRPC rounds deadlines on their way.
    assert [r.timeout for r in server.requests] == [pytest.approx(t, abs=1) for t in (60, 5, 7)]


def test_the_deadline_ends_a_call(connect):
    over = threading.Event()
    with FakeServer({"Classify": lambda _: over.wait(5) and pb.ClassifyResponse()}) as server:
        started = time.monotonic()
        with pytest.raises(DeadlineExceeded, match="allow more time") as caught:
            connect(server.address).call("classify", b"x", timeout=0.2)
        over.set()
    assert time.monotonic() - started < 2
    assert caught.value.reason == "DEADLINE_EXCEEDED"
    assert isinstance(caught.value, TimeoutError)


def test_a_full_server_is_asked_again(connect):
    answer = FailsFirst(queue_full(), queue_full())
    with FakeServer({"Classify": answer}) as server:
        assert connect(server.address).call("classify", b"x").top.label == "cat"
        ids = {request.metadata["x-request-id"] for request in server.requests}
    assert answer.calls == 3
    assert len(ids) == 1


def test_not_before_the_server_said(connect):
    with FakeServer({"Classify": FailsFirst(queue_full(0.2))}) as server:
        started = time.monotonic()
        connect(server.address).call("classify", b"x")
    assert time.monotonic() - started >= 0.2


def test_a_full_server_is_not_asked_for_ever(connect):
    answer = FailsFirst(*[queue_full()] * 10)
    with FakeServer({"Classify": answer}) as server, pytest.raises(Overloaded) as caught:
        connect(server.address, max_attempts=3).call("classify", b"x")
    assert answer.calls == 3
    assert caught.value.retry_after == pytest.approx(0.01)


def test_a_delay_beyond_the_deadline_is_not_waited_for(connect):
    answer = FailsFirst(queue_full(30))
    with FakeServer({"Classify": answer}) as server:
        started = time.monotonic()
        with pytest.raises(Overloaded):
            connect(server.address, timeout=5).call("classify", b"x")
    assert answer.calls == 1
    assert time.monotonic() - started < 2


def test_a_full_server_without_a_delay_is_not_asked_again(connect):
    answer = FailsFirst(queue_full(None))
    with FakeServer({"Classify": answer}) as server, pytest.raises(Overloaded):
        connect(server.address).call("classify", b"x")
    assert answer.calls == 1


def test_a_stopping_server_is_asked_again(connect):
    stopping = Failure(ErrorReason.ERROR_REASON_SERVER_STOPPING, retry_after=0.1)
    answer = FailsFirst(stopping, stopping)
    with FakeServer({"Classify": answer}) as server:
        picture = bytes(2**20)
        assert connect(server.address).call("classify", picture).top.label == "cat"
    assert answer.calls == 3


def test_a_server_that_comes_back_is_found(connect):
    with FakeServer() as gone:
        port = gone.address.rpartition(":")[2]

    def come_back() -> None:
        time.sleep(0.3)
        handler = grpc.method_handlers_generic_handler(
            "grpc.health.v1.Health",
            {"Check": grpc.unary_unary_rpc_method_handler(lambda request, context: b"\x08\x01")},
        )
        with ThreadPoolExecutor(1) as pool:
            server = grpc.server(pool, handlers=[handler])
            server.add_insecure_port(f"127.0.0.1:{port}")
            server.start()
            over.wait(10)
            server.stop(None).wait()

    over = threading.Event()
    thread = threading.Thread(target=come_back)
    thread.start()
    try:
        assert connect(gone.address).call("health") is Health.SERVING
    finally:
        over.set()
        thread.join()


def test_one_attempt_where_one_was_asked_for(connect):
    stopping = Failure(ErrorReason.ERROR_REASON_SERVER_STOPPING, retry_after=0.1)
    answer = FailsFirst(stopping)
    with FakeServer({"Classify": answer}) as server, pytest.raises(Unavailable) as caught:
        connect(server.address, max_attempts=1).call("classify", b"x")
    assert answer.calls == 1
    assert caught.value.reason == "SERVER_STOPPING"


def test_no_server(connect):
    with FakeServer() as server:
        address = server.address
    with pytest.raises(Unavailable, match=f"No server answers at {address}: ") as caught:
        connect(address, max_attempts=1).call("health")
    assert caught.value.reason == "SERVER_UNREACHABLE"
    assert isinstance(caught.value, ConnectionError)


def test_a_message_too_large_is_not_sent(connect, server):
    client = connect(server.address, max_message_bytes=1000)
    with pytest.raises(MessageTooLarge, match="of at most 1000") as caught:
        client.call("classify", bytes(1001))
    assert caught.value.reason == "MESSAGE_TOO_LARGE"
    assert server.requests == []
    client.call("classify", bytes(900))


def test_a_message_too_large_for_the_server(connect):
    with (
        FakeServer(max_message_bytes=1000) as server,
        pytest.raises(MessageTooLarge, match=r"larger than max \(\d+ vs. 1000\)") as caught,
    ):
        connect(server.address).call("classify", bytes(1001))
    assert caught.value.reason == "MESSAGE_TOO_LARGE"
    assert not isinstance(caught.value, Overloaded)


def test_an_answer_too_large_for_the_client(connect, server):
    with pytest.raises(MessageTooLarge):
        connect(server.address, max_message_bytes=100).call("classify", [b"x"] * 8)


def test_the_request_id_is_one_for_caller_server_and_error(connect, server):
    client = connect(server.address)
    with pytest.raises(NotFound) as caught:
        client.call("network", "zoo")
    client.call("network")
    first, second = (request.metadata["x-request-id"] for request in server.requests)
    assert caught.value.request_id == first
    assert first != second


def test_an_rpc_that_the_server_does_not_have(connect):
    missing = Failure(ErrorReason.ERROR_REASON_NOT_IMPLEMENTED, rpc="Check")
    with FakeServer({"Check": missing}) as server, pytest.raises(Unimplemented):
        connect(server.address).call("health")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (pb.ClassifyResponse(), "answered 0 of 1 images"),
        (pb.ClassifyResponse(results=[pb.ClassifyResult()]), "neither an answer nor an error"),
    ],
)
def test_an_answer_that_makes_no_sense(connect, answer, said):
    with FakeServer({"Classify": answer}) as server, pytest.raises(Internal, match=said):
        connect(server.address).call("classify", b"x")


def test_threads_share_a_client(server):
    with Client(server.address) as client, ThreadPoolExecutor(8) as pool:
        images = [bytes([n]) for n in range(100)]
        results = list(pool.map(client.classify, images))
    assert len(results) == 100
    assert sorted(r.message.images[0].encoded for r in server.requests) == sorted(images)


async def test_tasks_share_a_client(server):
    async with AsyncClient(server.address) as client:
        results = await asyncio.gather(*(client.classify(bytes([n])) for n in range(100)))
    assert len(results) == 100


async def test_a_cancelled_task_is_cancelled():
    over = threading.Event()
    with FakeServer({"Classify": lambda _: over.wait(5)}) as server:
        async with AsyncClient(server.address) as client:
            task = asyncio.create_task(client.classify(b"x"))
            while not server.requests:
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        over.set()


@pytest.mark.parametrize(
    "operation", ["estimate", "estimate_attack", "synthesize_to_end", "estimate_synthesis"]
)
def test_a_keyword_that_there_is_not_is_the_operations_own_error(
    connect: Any, server: FakeServer, operation: str
) -> None:
    words = rf"^{operation}\(\) got an unexpected keyword argument 'progress_every'$"
    with pytest.raises(TypeError, match=words):
        connect(server.address).call(operation, None, progress_every=5)
    assert server.requests == []
