"""When time is short, callers leave, workers fail or the server stops: nothing else is lost."""

import os
import signal
import threading
import time
from collections.abc import Callable
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
from convlens.v1.tensor_pb2 import DATA_TYPE_UINT8, Tensor
from tests.conftest import RunningServer, classification, running_server, server_process

# What the server does by itself, with either engine.
SLOW_WITH_TRITON = ["embedded", pytest.param("triton-local", marks=pytest.mark.slow)]


@pytest.fixture(scope="module")
def image(pictures: list[Path]) -> Image:
    return Image(encoded=pictures[0].read_bytes())


class SlowNetwork:
    """Holds every forward pass of a server's worker until released, or makes it fail."""

    def __init__(self, server: RunningServer, monkeypatch: pytest.MonkeyPatch) -> None:
        network = server.engine._served["shapes@1"].pools["inference"]._worker._network
        self.gate = threading.Event()
        self.entered = threading.Event()
        self.failing_pass = 0
        self.passes = 0
        bare = network.logits

        def logits(pixels: Any) -> Any:
            self.entered.set()
            assert self.gate.wait(20)
            self.passes += 1
            if self.passes == self.failing_pass:
                raise RuntimeError("planted")
            return bare(pixels)

        monkeypatch.setattr(network, "logits", logits)


def wait_until(condition: Callable[[], bool]) -> None:
    """Waits for what other threads bring about."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def refused() -> Any:
    """The error of gRPC that a block must end with; its class says too little of its members."""
    return pytest.raises(grpc.RpcError)


def reason_of(error: Any) -> str:
    status = rpc_status.from_call(error)
    failure = Failure.from_status(status) if status else None
    return reason_name(failure.reason) if failure else str(error.code())


def test_an_exception_in_a_pass_fails_whoever_was_in_it_and_nobody_else(
    image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_server() as server, server.channel() as channel:
        stub = classification(channel)
        slow = SlowNetwork(server, monkeypatch)
        request = ClassifyRequest(images=[image] * 8)
        first = stub.Classify.future(request, timeout=20)
        assert slow.entered.wait(20)
        # What waits now is handed over together: 12 x 8 images are three passes of 32.
        calls = [
            stub.Classify.future(request, timeout=20, metadata=[("x-request-id", f"r{i}")])
            for i in range(12)
        ]
        wait_until(lambda: len(server.engine._served["shapes@1"].pools["inference"]) == 12)
        slow.failing_pass = 3
        slow.gate.set()
        assert first.result(20).results
        errors = [call.exception(20) for call in calls]
        broken = [error for error in errors if error is not None]
        assert len(broken) == 4
        for error in broken:
            assert error.code() == grpc.StatusCode.INTERNAL
            assert reason_of(error) == "INTERNAL"
            assert "planted" not in error.details()
            assert dict(error.trailing_metadata())["x-request-id"] in error.details()
        assert stub.Classify(request, timeout=20).results


def test_an_image_that_breaks_the_reader_is_that_images_error(
    image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    from convlens.workers import pictures as module

    bare = module.prepare
    broken = Image(tensor=Tensor(dtype=DATA_TYPE_UINT8, shape=[7, 7, 3], data=bytes(147)))

    def prepare(pixels: Any, *rest: Any) -> Any:
        if pixels.height == 7:
            raise MemoryError("planted")
        return bare(pixels, *rest)

    monkeypatch.setattr(module, "prepare", prepare)
    with running_server() as server, server.channel() as channel:
        request = ClassifyRequest(images=[image, broken, image])
        good, bad, other = classification(channel).Classify(request, timeout=20).results
    assert good == other
    assert good.HasField("classification")
    failure = Failure.from_status(bad.error)
    assert failure is not None
    assert reason_name(failure.reason) == "INTERNAL"


def test_images_are_not_read_for_a_caller_whose_time_is_over(
    image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    from convlens.workers import pictures as module

    bare, read = module.read_image, []

    def read_image(*arguments: Any) -> Any:
        read.append(arguments)
        time.sleep(0.05)
        return bare(*arguments)

    monkeypatch.setattr(module, "read_image", read_image)
    with running_server() as server, server.channel() as channel:
        stub = classification(channel)
        with refused() as caught:
            stub.Classify(ClassifyRequest(images=[image] * 64), timeout=0.2)
        assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        assert stub.Classify(ClassifyRequest(images=[image]), timeout=20).results
    assert len(read) < 32


def test_the_queue_is_bounded_in_bytes_and_forgets_what_nobody_waits_for(
    image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    pools = {"inference": {"queue_bytes": 2**20}}
    with running_server(pools) as server, server.channel() as channel:
        stub = classification(channel)
        slow = SlowNetwork(server, monkeypatch)
        first = stub.Classify.future(ClassifyRequest(images=[image]), timeout=20)
        assert slow.entered.wait(20)
        pool = server.engine._served["shapes@1"].pools["inference"]
        wait_until(lambda: pool._bytes > 0)
        big = ClassifyRequest(images=[Image(encoded=bytes(700_000))])
        waiting = stub.Classify.future(big, timeout=20)
        wait_until(lambda: pool._bytes > 700_000)
        with refused() as caught:
            stub.Classify(big, timeout=20)
        assert reason_of(caught.value) == "QUEUE_FULL"
        waiting.cancel()
        wait_until(lambda: pool._waiting[0].is_over())
        again = stub.Classify.future(big, timeout=20)
        wait_until(lambda: not pool._waiting[0].is_over())
        slow.gate.set()
        assert first.result(20).results
        assert again.result(20).results
        wait_until(lambda: pool._bytes == 0)


def test_what_waits_is_the_next_batch_and_a_full_queue_refuses(
    image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_server({"inference": {"queue_size": 4}}) as server, server.channel() as channel:
        stub = classification(channel)
        slow = SlowNetwork(server, monkeypatch)
        request = ClassifyRequest(images=[image])
        first = stub.Classify.future(request, timeout=20)
        assert slow.entered.wait(20)
        waiting = [stub.Classify.future(request, timeout=20) for _ in range(8)]
        wait_until(lambda: sum(call.done() for call in waiting) == 4)
        turned_away = [call for call in waiting if call.done()]
        for call in turned_away:
            error = call.exception()
            assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
            failure = Failure.from_status(rpc_status.from_call(error))
            assert failure is not None
            assert reason_name(failure.reason) == "QUEUE_FULL"
            assert failure.retry_after is not None
            assert failure.retry_after > 0
        slow.gate.set()
        answered = [first, *(call for call in waiting if call not in turned_away)]
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
        assert stub.Classify(ClassifyRequest(images=[image]), timeout=20).results
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
        wait_until(lambda: not server.gateway._onion._active)
        with server.channel() as channel:
            stub = classification(channel)
            assert stub.Classify(ClassifyRequest(images=[image]), timeout=20).results
        # Neither the 10 000 nor the window's 64 were computed for nobody.
        assert slow.passes <= 4


@pytest.mark.parametrize("engine", SLOW_WITH_TRITON)
def test_a_server_stopped_under_load_answers_everything_that_it_took(
    engine: str, image: Image
) -> None:
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

    with (
        server_process("--engine", engine) as (process, address),
        ThreadPoolExecutor(8) as executor,
    ):
        callers = [executor.submit(call_until_refused, address) for _ in range(8)]
        time.sleep(1.5)
        process.send_signal(signal.SIGTERM)
        answered = [caller.result(40) for caller in callers]
        assert process.wait(20) == 0
    assert sum(answered) > 8
    # Every caller ended on a refusal that may be tried again, none on work taken and lost.
    assert set(codes) == {"UNAVAILABLE SERVER_STOPPING"}
    assert not Path(f"/proc/{process.pid}").exists()


@pytest.mark.parametrize("engine", SLOW_WITH_TRITON)
def test_calls_that_outlast_the_drain_are_told_so_in_time(engine: str, image: Image) -> None:
    many = ClassifyRequest(images=[image] * 64)
    with (
        server_process("--engine", engine, "--drain-timeout", "0.2") as (process, address),
        grpc.insecure_channel(address) as channel,
    ):
        stub = classification(channel)
        stub.Classify(ClassifyRequest(images=[image]), timeout=20)
        calls = [stub.Classify.future(many, timeout=60) for _ in range(20)]
        time.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        started = time.monotonic()
        reasons = {reason_of(error) for call in calls if (error := call.exception(30))}
        assert process.wait(30) == 0
        seconds = time.monotonic() - started
    assert reasons == {"SERVER_STOPPING"}
    assert seconds < 10


@pytest.mark.parametrize("engine", SLOW_WITH_TRITON)
def test_a_stream_of_a_stopping_server_ends_after_what_was_taken(engine: str, image: Image) -> None:
    requests = (
        ClassifyStreamRequest(id=i, request=ClassifyRequest(images=[image])) for i in range(100_000)
    )
    received: list[int] = []
    with (
        server_process("--engine", engine) as (process, address),
        grpc.insecure_channel(address) as channel,
    ):
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
