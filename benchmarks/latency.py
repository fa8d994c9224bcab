"""What the server adds to a Classify of 60 kB, over asking Triton directly with the same job."""

import asyncio
import time
from pathlib import Path
from typing import Any

import grpc

from benchmarks.common import Side, jpeg_of_60_kb, server, show, turns
from convlens.internal.v1.job_pb2 import Job
from convlens.server.metrics import Metrics, TritonMetrics
from convlens.server.triton.replica import Replica
from convlens.server.triton.repository import LocalAddresses
from convlens.v1.classification_pb2 import ClassifyRequest
from convlens.v1.classification_pb2_grpc import ClassificationServiceStub
from convlens.v1.image_pb2 import Image

ROUNDS = 5
CALLS = 100
MODEL = "shapes@1-inference"


async def measure(json_file: Path | None) -> None:
    """Alternates both ways, one call at a time; the limit is 1.5 ms at the median."""
    request = ClassifyRequest(images=[Image(encoded=jpeg_of_60_kb())])
    local = LocalAddresses(None)
    await local.start()
    try:
        [address] = await local.current()
        [(_, key)] = local.headers
        flags = ["--triton-url", address, "--triton-key", key]
        replica = Replica(address, None, "", local.headers, TritonMetrics(Metrics()))
        with server("triton", flags=flags) as front:
            async with grpc.aio.insecure_channel(front.server) as channel:
                stub: Any = ClassificationServiceStub(channel)
                direct, through = Side("Triton directly", []), Side("through ConvLens", [])
                for _ in turns(ROUNDS, "latency"):
                    direct.values.extend(await timed(lambda: ask_triton(replica, request)))
                    through.values.extend(await timed(lambda: stub.Classify(request)))
        await replica.close()
    finally:
        await local.stop()
    added = through.median - direct.median
    title = "Classify of 60 kB, one call at a time"
    show(title, "ms", [direct, through], f"added at the median: {added:.2f} ms", json_file)


async def ask_triton(replica: Replica, request: ClassifyRequest) -> None:
    """The job that the server would send."""
    job = Job(
        request_id="benchmark",
        method="ClassificationService/Classify",
        request=request.SerializeToString(),
        remaining_us=10_000_000,
        sent_us=time.monotonic_ns() // 1000,
        clock="benchmark",
    )
    async for reply in replica.stream(MODEL, job):
        assert reply.response


async def timed(call: Any) -> list[float]:
    """Milliseconds of each of many calls, after a few that are not counted."""
    values: list[float] = []
    for number in range(CALLS + 10):
        started = time.perf_counter()
        await call()
        if number >= 10:
            values.append((time.perf_counter() - started) * 1e3)
    return values


def run(json_file: Path | None) -> None:
    """Measures and prints."""
    asyncio.run(measure(json_file))
