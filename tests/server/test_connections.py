"""Connections are replaced as they age without a lost call, and watched without being cut off."""

import asyncio
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from convlens.client import Client
from convlens.client.methods import PGD
from convlens.internal.v1.job_pb2 import Job, Reply
from convlens.server import gateway
from convlens.server.gateway import Gateway
from convlens.server.metrics import Metrics
from convlens.server.settings import Settings
from convlens.v1.classification_pb2 import ClassifyRequest
from convlens.v1.image_pb2 import Image
from convlens.v1.network_pb2 import Network
from tests.conftest import RunningServer
from tests.server.quiet_engine import Quiet

# Seconds, and steps of an attack that take longer.
AGE, STEPS = 0.2, 100


@contextmanager
def another(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch, **settings: Any
) -> Generator[Gateway]:
    """A second gateway to the engine of a running server."""

    async def nothing() -> None: ...

    with monkeypatch.context() as patch:
        patch.setattr(server.engine, "start", nothing)
        patch.setattr(server.engine, "stop", nothing)
        free: dict[str, Any] = {"listen": "127.0.0.1:0", "metrics_listen": "off", **settings}
        second = Gateway(Settings(**free), server.engine, Metrics())
        server.run(second.__aenter__())
        try:
            yield second
        finally:
            server.run(second.__aexit__(None, None, None))


def test_an_ageing_connection_loses_no_call(
    servers: Callable[[str], RunningServer], pictures: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither those that follow each other, nor one that takes longer, nor a stream."""

    def slowly() -> Iterator[Path]:
        for picture in pictures:
            yield picture
            time.sleep(4 * AGE / len(pictures))

    def one_long(client: Client) -> float:
        started = time.monotonic()
        client.attack(pictures[0], PGD(steps=STEPS), stop_at_success=False)
        return time.monotonic() - started

    with another(servers("embedded"), monkeypatch, max_connection_age=AGE) as ageing:
        peers = set[str]()
        open_call = ageing._onion._open

        def noting(rpc: Any, context: Any, caller: Any) -> Any:
            peers.add(context.peer())
            return open_call(rpc, context, caller)

        monkeypatch.setattr(ageing._onion, "_open", noting)
        # With one attempt for each call the SDK cannot hide a lost one.
        with Client(str(ageing.address), max_attempts=1) as client, ThreadPoolExecutor() as threads:
            stream = threads.submit(lambda: list(client.classify_stream(slowly())))
            long = threads.submit(one_long, client)
            calls = 0
            while not (stream.done() and long.done()):
                assert client.classify(pictures[0]).top.label
                calls += 1
            assert [each.top.label for each in stream.result()] == [
                picture.name.partition("-")[0] for picture in pictures
            ]
            assert long.result() > 1.5 * AGE, "it outlived its connection"
    assert len(peers) > 3 and calls > 3


class Silent(Quiet):
    """Answers nobody until it is told to."""

    def __init__(self) -> None:
        self.asked, self.answers = asyncio.Event(), asyncio.Event()

    async def call(self, network: Network, job: Job) -> Reply:
        self.asked.set()
        await self.answers.wait()
        return Reply(response=b"answered")


async def outcome_of_a_silent_call() -> str:
    """How a call ends that is silent for some seconds, of a caller who pings every second."""
    settings: dict[str, Any] = {"listen": "127.0.0.1:0", "metrics_listen": "off"}
    engine = Silent()
    options = [
        # More often than gRPC pings: it lets a second pass between two.
        ("grpc.keepalive_time_ms", 200),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.use_local_subchannel_pool", 1),
    ]
    async with (
        Gateway(Settings(**settings), engine, Metrics()) as server,
        grpc.aio.insecure_channel(str(server.address), options) as channel,
    ):
        call: Any = channel.unary_unary("/convlens.v1.ClassificationService/Classify")
        body = ClassifyRequest(images=[Image(encoded=b"x")]).SerializeToString()
        waiting = call(body, timeout=20)
        await engine.asked.wait()
        # The time itself is what is tested: a GOAWAY comes with the fourth ping.
        await asyncio.wait({asyncio.ensure_future(waiting.code())}, timeout=5)
        engine.answers.set()
        try:
            return (await waiting).decode()
        except grpc.aio.AioRpcError as error:
            return error.details() or ""


async def test_pings_of_clients_are_answered_and_floods_of_them_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert gateway.LEAST_PING_MS > 1000
    flood = asyncio.create_task(outcome_of_a_silent_call())
    await asyncio.sleep(0)
    # The other server has its options by now.
    monkeypatch.setattr(gateway, "LEAST_PING_MS", 500)
    assert await outcome_of_a_silent_call() == "answered"
    assert await flood == "Too many pings"


def test_the_sdk_pings_less_often_than_the_server_allows() -> None:
    options = dict(Client("127.0.0.1:1")._settings.channel_options())
    assert options["grpc.keepalive_time_ms"] >= 2 * gateway.LEAST_PING_MS
