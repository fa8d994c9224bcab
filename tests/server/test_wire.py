"""The way back to a caller who reads slowly: the status comes after the last message."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import grpc
from grpc_status import rpc_status

from convlens.contract import Failure
from convlens.contract.errors import reason_name
from convlens.internal.v1.job_pb2 import Job, Reply
from convlens.server.contract import RPCS
from convlens.server.gateway import Gateway
from convlens.server.metrics import Metrics
from convlens.server.settings import Settings
from convlens.v1.network_pb2 import Network
from tests.faults.seeds import requests_of
from tests.server.quiet_engine import Quiet

PATH = "/convlens.v1.SynthesisService/Synthesize"
# More than the windows of HTTP/2 hold for somebody who does not read.
LARGE = bytes(8 * 2**20)


class Talkative(Quiet):
    """Begins to answer every job, with one large message, and never ends it."""

    def __init__(self) -> None:
        self.left = asyncio.Event()

    async def stream(self, network: Network, job: Job) -> AsyncGenerator[Reply, None]:
        try:
            yield Reply(response=LARGE, more=True)
            await asyncio.Event().wait()
        finally:
            self.left.set()


async def ended(server: Gateway, engine: Talkative) -> str:
    """How a call ends whose caller begins to read when its work is over."""
    async with grpc.aio.insecure_channel(
        str(server.address), [("grpc.max_receive_message_length", -1)]
    ) as channel:
        [request, *_] = requests_of(RPCS[PATH])[0]
        # Without a deadline of his own nobody but the server ends it.
        call: Any = channel.unary_stream(PATH)(request.SerializeToString())
        async with asyncio.timeout(10):
            await engine.left.wait()
            received = list[int]()
            try:
                async for reply in call:
                    received.append(len(reply))
            except grpc.aio.AioRpcError as error:
                status = rpc_status.from_call(error)  # pyright: ignore[reportArgumentType]
                failure = Failure.from_status(status) if status else None
                assert failure is not None, error
                assert received == [len(LARGE)]
                return reason_name(failure.reason)
    raise AssertionError("it ended without a status")


def settings(**given: Any) -> Settings:
    free: dict[str, Any] = {"listen": "127.0.0.1:0", "metrics_listen": "off"}
    return Settings(**free, **given)


async def test_time_that_ends_in_the_middle_of_a_message_is_told() -> None:
    engine = Talkative()
    async with Gateway(settings(default_timeout=0.3), engine, Metrics()) as server:
        assert await ended(server, engine) == "DEADLINE_EXCEEDED"
