"""Triton falls silent: nothing is closed, nothing refused, and nothing comes."""

import asyncio
import signal
import time
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status

from convlens.contract import Failure
from convlens.contract.errors import reason_name, rule_of
from convlens.server.gateway import Gateway
from convlens.server.main import build
from convlens.server.settings import Settings
from convlens.server.triton import fleet, replica
from convlens.v1.classification_pb2 import ClassifyRequest
from convlens.v1.image_pb2 import Image
from tests.conftest import RunningServer, classification
from tests.e2e.test_triton_faults import outcome, triton_of
from tests.faults.proxy import Proxy
from tests.faults.seeds import picture
from tests.faults.target import CLASSIFY
from tests.server.fake_triton import FakeTriton

SERVICE = "convlens.v1.ClassificationService"
Status = health_pb2.HealthCheckResponse
REQUEST = ClassifyRequest(images=[Image(encoded=picture())])


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks at Triton often, and waits for it half a second."""
    monkeypatch.setattr(fleet, "REFRESH_SECONDS", 0.05)
    monkeypatch.setattr(replica, "ANSWER_SECONDS", 0.5)


@asynccontextmanager
async def behind_a_proxy() -> AsyncGenerator[tuple[Proxy, Gateway, grpc.aio.Channel]]:
    async with (
        FakeTriton({"old@1": 1.0}, {}).serve() as triton,
        Proxy(triton.address).serve() as proxy,
    ):
        free: dict[str, Any] = {"listen": "127.0.0.1:0", "metrics_listen": "off"}
        settings = Settings(engine="triton", triton_url=proxy.address, drain_timeout=1, **free)
        async with build(settings) as gateway:
            async with grpc.aio.insecure_channel(str(gateway.address)) as channel:
                yield proxy, gateway, channel
            proxy.speak_again()


async def reason_of(channel: grpc.aio.Channel, timeout: float) -> str:
    """How a call ends: "" for an answer, otherwise the reason; it must end in time."""
    started = time.monotonic()
    try:
        await channel.unary_unary(CLASSIFY)(REQUEST.SerializeToString(), timeout=timeout)
    except grpc.aio.AioRpcError as caught:
        error: Any = caught
        if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
            return "DEADLINE_EXCEEDED"
        status = rpc_status.from_call(error)
        failure = Failure.from_status(status) if status else None
        assert failure is not None, error
        assert rule_of(failure.reason).retryable and failure.retry_after is not None
        return reason_name(failure.reason)
    finally:
        assert time.monotonic() - started < timeout + 2
    return ""


async def becomes(channel: grpc.aio.Channel, status: Any) -> float:
    """Seconds until the health service says so."""
    stub: Any = health_pb2_grpc.HealthStub(channel)
    started = time.monotonic()
    async with asyncio.timeout(30):
        async for said in stub.Watch(health_pb2.HealthCheckRequest(service=SERVICE)):
            if said.status == status:
                break
    return time.monotonic() - started


async def test_a_silent_connection_is_told_and_comes_back(quick: None) -> None:
    async with behind_a_proxy() as (proxy, _, channel):
        assert await reason_of(channel, 5) == ""
        proxy.fall_silent()
        # Who is under way when it begins waits for as long as he said.
        waiting = asyncio.create_task(reason_of(channel, 1))
        await becomes(channel, Status.NOT_SERVING)
        started = time.monotonic()
        assert await reason_of(channel, 20) == "WORKER_UNAVAILABLE"
        assert time.monotonic() - started < 1, "refused at once"
        assert await waiting in ("DEADLINE_EXCEEDED", "WORKER_UNAVAILABLE")
        proxy.speak_again()
        await becomes(channel, Status.SERVING)
        assert await reason_of(channel, 5) == ""


@pytest.mark.slow
async def test_pings_find_a_silent_connection_under_a_call_with_much_time() -> None:
    async with behind_a_proxy() as (proxy, _, channel):
        proxy.fall_silent()
        started = time.monotonic()
        assert await reason_of(channel, 60) == "WORKER_UNAVAILABLE"
        assert time.monotonic() - started < 40


@contextmanager
def stopped(triton: Any) -> Generator[None]:
    triton.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        triton.send_signal(signal.SIGCONT)


@pytest.mark.slow
def test_a_stopped_triton_is_told_and_goes_on(
    servers: Callable[[str], RunningServer], quick: None, pictures: list[Path]
) -> None:
    server = servers("triton-local")
    request = ClassifyRequest(images=[Image(encoded=pictures[0].read_bytes())])
    with server.channel() as channel:
        stub = classification(channel)
        health: Any = health_pb2_grpc.HealthStub(channel)

        def wait_for(status: Any) -> None:
            said = health.Watch(health_pb2.HealthCheckRequest(service=SERVICE), timeout=30)
            assert any(each.status == status for each in said)
            said.cancel()

        assert outcome(lambda: stub.Classify(request, timeout=20)) == "arrow"
        with stopped(triton_of(server)):
            wait_for(Status.NOT_SERVING)
            assert outcome(lambda: stub.Classify(request, timeout=20)) == "WORKER_UNAVAILABLE"
        wait_for(Status.SERVING)
        assert outcome(lambda: stub.Classify(request, timeout=20)) == "arrow"
