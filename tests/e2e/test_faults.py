"""When time is short, callers leave, workers fail or the server stops: nothing else is lost."""

import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_status import rpc_status

from convlens.contract import Failure
from convlens.contract.errors import reason_name
from convlens.v1.classification_pb2 import ClassifyRequest, ClassifyStreamRequest
from convlens.v1.image_pb2 import Image
from tests.conftest import RunningServer, classification, running_server, server_process


@pytest.fixture(scope="module")
def image(pictures: list[Path]) -> Image:
    return Image(encoded=pictures[0].read_bytes())


class SlowNetwork:
    """Holds every forward pass of a server's worker until released, or makes it fail."""

    def __init__(self, server: RunningServer, monkeypatch: pytest.MonkeyPatch) -> None:
        network = server.engine._workers["shapes"]._network
        self.gate = threading.Event()
        self.entered = threading.Event()
        self.error: Exception | None = None
        self.passes = 0
        bare = network.logits

        def logits(pixels: Any) -> Any:
            self.entered.set()
            assert self.gate.wait(20)
            self.passes += 1
            if self.error:
                raise self.error
            return bare(pixels)

        monkeypatch.setattr(network, "logits", logits)


def refused() -> Any:
    """The error of gRPC that a block must end with; its class says too little of its members."""
    return pytest.raises(grpc.RpcError)


def reason_of(error: Any) -> str:
    status = rpc_status.from_call(error)
    failure = Failure.from_status(status) if status else None
    return reason_name(failure.reason) if failure else str(error.code())


def test_an_exception_in_the_worker_fails_its_batch_and_nothing_else(
    image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_server() as server, server.channel() as channel:
        stub = classification(channel)
        slow = SlowNetwork(server, monkeypatch)
        slow.gate.set()
        slow.error = RuntimeError("planted")
        with refused() as caught:
            stub.Classify(
                ClassifyRequest(images=[image]), timeout=20, metadata=[("x-request-id", "one")]
            )
        assert caught.value.code() == grpc.StatusCode.INTERNAL
        assert reason_of(caught.value) == "INTERNAL"
        assert "request one" in caught.value.details()
        assert "planted" not in caught.value.details()
        slow.error = None
        assert stub.Classify(ClassifyRequest(images=[image]), timeout=20).results


def test_what_waits_is_the_next_batch_and_a_full_queue_refuses(
    image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_server(queue_limit=4) as server, server.channel() as channel:
        stub = classification(channel)
        slow = SlowNetwork(server, monkeypatch)
        request = ClassifyRequest(images=[image])
        first = stub.Classify.future(request, timeout=20)
        assert slow.entered.wait(20)
        waiting = [stub.Classify.future(request, timeout=20) for _ in range(8)]
        refused: list[Any] = []
        deadline = time.monotonic() + 10
        while len(refused) < 4 and time.monotonic() < deadline:
            refused = [call for call in waiting if call.done()]
            time.sleep(0.01)
        assert len(refused) == 4
        for call in refused:
            error = call.exception()
            assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
            failure = Failure.from_status(rpc_status.from_call(error))
            assert failure is not None
            assert reason_name(failure.reason) == "QUEUE_FULL"
            assert failure.retry_after is not None
            assert failure.retry_after > 0
        slow.gate.set()
        answered = [first, *(call for call in waiting if call not in refused)]
        assert all(call.result(20).results for call in answered)
        # One pass for the first call, one for the four that waited together.
        assert slow.passes == 2


def test_work_whose_deadline_passed_never_reaches_the_network(
    image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_server() as server, server.channel() as channel:
        stub = classification(channel)
        slow = SlowNetwork(server, monkeypatch)
        request = ClassifyRequest(images=[image])
        first = stub.Classify.future(request, timeout=20)
        assert slow.entered.wait(20)
        late = stub.Classify.future(request, timeout=0.2)
        assert late.exception().code() == grpc.StatusCode.DEADLINE_EXCEEDED
        slow.gate.set()
        assert first.result(20).results
        assert stub.Classify(request, timeout=20).results
        assert slow.passes == 2


def test_a_deadline_between_passes_ends_the_call(
    image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_server(default_timeout=0.5) as server, server.channel() as channel:
        stub = classification(channel)
        slow = SlowNetwork(server, monkeypatch)
        request = ClassifyRequest(images=[image] * 64)  # two passes
        call = stub.Classify.future(request)
        assert slow.entered.wait(20)
        error = call.exception(20)
        assert reason_of(error) == "DEADLINE_EXCEEDED"
        slow.gate.set()
        assert stub.Classify(ClassifyRequest(images=[image])).results
        assert slow.passes == 2  # the first of the late call, and one for the next


def test_a_deadline_that_has_passed(channel: grpc.Channel, image: Image) -> None:
    stub = classification(channel)
    with refused() as caught:
        stub.Classify(ClassifyRequest(images=[image]), timeout=0.000001)
    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert stub.Classify(ClassifyRequest(images=[image]), timeout=20).results


def test_a_client_gone_in_the_middle_of_a_stream(
    image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_server() as server:
        slow = SlowNetwork(server, monkeypatch)
        with server.channel() as channel:
            stub = classification(channel)
            requests = (
                ClassifyStreamRequest(id=i, request=ClassifyRequest(images=[image]))
                for i in range(10_000)
            )
            stream = stub.ClassifyStream(requests)
            assert slow.entered.wait(20)
            stream.cancel()
        slow.gate.set()
        with server.channel() as channel:
            stub = classification(channel)
            assert stub.Classify(ClassifyRequest(images=[image]), timeout=20).results
        # Neither the 10 000 nor the window's 64 were computed for nobody.
        assert slow.passes <= 4


def test_a_server_stopped_under_load_answers_everything_that_it_took(image: Image) -> None:
    codes: list[str] = []

    def call_until_refused(address: str) -> int:
        answered = 0
        with grpc.insecure_channel(address) as channel:
            stub = classification(channel)
            while True:
                try:
                    stub.Classify(ClassifyRequest(images=[image] * 8), timeout=30)
                    answered += 1
                except grpc.RpcError as error:
                    codes.append(f"{error.code().name} {reason_of(error)}")
                    return answered

    with server_process() as (process, address), ThreadPoolExecutor(8) as executor:
        callers = [executor.submit(call_until_refused, address) for _ in range(8)]
        time.sleep(1.5)
        process.send_signal(signal.SIGTERM)
        answered = [caller.result(40) for caller in callers]
        assert process.wait(20) == 0
    assert sum(answered) > 8
    # Every caller ended on a refusal that may be tried again, none on work taken and lost.
    assert {code.split()[0] for code in codes} == {"UNAVAILABLE"}
    assert not Path(f"/proc/{process.pid}").exists()


def test_a_stream_of_a_stopping_server_ends_after_what_was_taken(image: Image) -> None:
    requests = (
        ClassifyStreamRequest(id=i, request=ClassifyRequest(images=[image])) for i in range(100_000)
    )
    received: list[int] = []
    with server_process() as (process, address), grpc.insecure_channel(address) as channel:
        stream = classification(channel).ClassifyStream(requests)
        with refused() as caught:
            for response in stream:
                assert response.HasField("response")
                received.append(response.id)
                if len(received) == 20:
                    os.kill(process.pid, signal.SIGTERM)
        assert process.wait(20) == 0
    assert reason_of(caught.value) == "SERVER_STOPPING"
    assert received == list(range(len(received)))
    assert len(received) > 20
