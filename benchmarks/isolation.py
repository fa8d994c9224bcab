"""The latency of Classify while the analysis pool of the same network computes at full load."""

import asyncio
import time
from pathlib import Path

from benchmarks.common import Side, jpeg_of_60_kb, show
from convlens.internal.v1.canary_pb2 import CanaryRequest
from convlens.internal.v1.job_pb2 import Job
from convlens.server.metrics import Metrics, TritonMetrics
from convlens.server.triton.replica import Replica
from convlens.server.triton.repository import LocalAddresses
from convlens.v1.classification_pb2 import ClassifyRequest
from convlens.v1.image_pb2 import Image

CALLS = 200
NETWORKS = """\
networks: [{{name: resnet18, builder: 'torchvision:resnet18', weights: random}}]
pools: {{analysis: {{niceness: {niceness}}}}}
"""


def job(method: str, request: bytes) -> Job:
    return Job(
        request_id="benchmark",
        method=method,
        request=request,
        remaining_us=120_000_000,
        sent_us=time.monotonic_ns() // 1000,
        clock="benchmark",
    )


async def classify(replica: Replica, body: bytes) -> list[float]:
    """Milliseconds of each of many calls, one at a time."""
    values: list[float] = []
    for _ in range(CALLS):
        started = time.perf_counter()
        await replica.infer("resnet18@1-inference", job("ClassificationService/Classify", body))
        values.append((time.perf_counter() - started) * 1e3)
        # Triton 2.51 lets a request wait 0.5 s that comes within microseconds of the last answer.
        await asyncio.sleep(0.002)
    return values


async def analyse(replica: Replica) -> None:
    """Keeps the analysis pool busy until cancelled."""
    request = CanaryRequest(passes=100_000).SerializeToString()
    async for _ in replica.stream("resnet18@1-analysis", job("Canary", request)):
        pass


async def measure(niceness: int, file: Path) -> tuple[Side, Side]:
    """Classify alone, and beside the analysis pool at this niceness."""
    file.write_text(NETWORKS.format(niceness=niceness))
    local, body = LocalAddresses(file), ClassifyRequest(images=[Image(encoded=jpeg_of_60_kb())])
    await local.start()
    try:
        [address] = await local.current()
        replica = Replica(address, None, "", local.headers, TritonMetrics(Metrics()))
        await classify(replica, body.SerializeToString())
        alone = await classify(replica, body.SerializeToString())
        attack = asyncio.create_task(analyse(replica))
        await asyncio.sleep(1)
        beside = await classify(replica, body.SerializeToString())
        attack.cancel()
        await asyncio.gather(attack, return_exceptions=True)
        await replica.close()
    finally:
        await local.stop()
    return Side("alone", alone), Side(f"beside analysis at nice {niceness}", beside)


def p99(side: Side) -> float:
    """The value that one of a hundred is above."""
    return sorted(side.values)[int(len(side.values) * 0.99)]


def run(json_file: Path | None) -> None:
    """Measures with and without the niceness of the default configuration."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "networks.yaml"
        alone, nice = asyncio.run(measure(19, file))
        _, rude = asyncio.run(measure(0, file))
    ratios = ", ".join(f"{side.name}: p99 {p99(side):.0f} ms" for side in (alone, nice, rude))
    ratio = f"{ratios}; {p99(nice) / p99(alone):.2f} times that alone"
    show(
        "Classify ResNet-18 beside a busy analysis pool",
        "ms",
        [alone, nice, rude],
        ratio,
        json_file,
    )
