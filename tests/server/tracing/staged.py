"""A real gateway in front of an engine that computes nothing, but says where its time went."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import grpc

from convlens.internal.v1.job_pb2 import Job, Reply, Stages
from convlens.server.gateway import Gateway
from convlens.server.metrics import Metrics
from convlens.server.settings import Settings
from convlens.v1.classification_pb2 import ClassifyRequest, ClassifyResponse
from convlens.v1.image_pb2 import Image
from convlens.v1.network_pb2 import Network
from tests.server.quiet_engine import Quiet

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PICTURE = b"PICTURE-271828"
REQUEST = ClassifyRequest(images=[Image(encoded=PICTURE)])


def parent(flags: str = "01", trace: str = TRACE) -> tuple[tuple[str, str], ...]:
    return (("traceparent", f"00-{trace}-{SPAN}-{flags}"),)


class Staged(Quiet):
    """Takes 20 ms, of which its stages say 1, 2, 3 and 4; `jobs` has what came."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self.stages = Stages(wait_us=1000, decode_us=2000, compute_us=3000, encode_us=4000)
        self.error: Exception | None = None

    async def call(self, network: Network, job: Job) -> Reply:
        self.jobs.append(job)
        await asyncio.sleep(0.02)
        if self.error:
            raise self.error
        return Reply(response=ClassifyResponse().SerializeToString(), stages=self.stages)


@asynccontextmanager
async def traced(**settings: Any) -> AsyncGenerator[tuple[Staged, grpc.aio.Channel]]:
    """Serves while the block runs; at its end all spans have gone out."""
    given: dict[str, Any] = {"listen": "127.0.0.1:0", "metrics_listen": "off", "drain_timeout": 1}
    engine = Staged()
    async with (
        Gateway(Settings(**{**given, **settings}), engine, Metrics()) as gateway,
        grpc.aio.insecure_channel(str(gateway.address)) as channel,
    ):
        yield engine, channel
