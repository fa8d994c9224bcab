"""The latency of Classify while the analysis pool of the same network computes at full load."""

import asyncio
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from benchmarks.common import Side, jpeg_of_60_kb, one_by_one, p99, server, show, turns
from convlens.client import AsyncClient
from convlens.internal.v1.canary_pb2 import CanaryRequest
from convlens.internal.v1.job_pb2 import Job
from convlens.server.metrics import Metrics, TritonMetrics
from convlens.server.triton.replica import Replica
from convlens.server.triton.repository import LocalAddresses

ROUNDS = 3
CALLS = 100
# Where nothing isolates, calls take seconds: then a round has fewer of them.
ROUND_SECONDS = 15.0
NETWORKS = """\
networks: [{{name: resnet18, builder: 'torchvision:resnet18', weights: random}}]
pools: {{analysis: {{niceness: {niceness}}}}}
"""


@dataclass(frozen=True)
class Settings:
    """What may keep the pools apart: niceness of the analysis pool, and how long threads spin."""

    niceness: int
    spins: int

    def __str__(self) -> str:
        return f"nice {self.niceness}, GOMP_SPINCOUNT={self.spins}"


ALL = [
    Settings(19, 3000),
    Settings(0, 3000),
    Settings(19, 0),
    Settings(19, 300_000),
]


async def analyse(replica: Replica) -> None:
    """Keeps the analysis pool busy until cancelled."""
    job = Job(
        request_id="benchmark",
        method="Canary",
        request=CanaryRequest(passes=100_000).SerializeToString(),
        remaining_us=600_000_000,
        sent_us=time.monotonic_ns() // 1000,
        clock="benchmark",
    )
    async for _ in replica.stream("resnet18@1-analysis", job):
        pass


async def measure(settings: Settings, file: Path) -> tuple[Side, Side]:
    """Classify through the whole stack, by turns alone and beside the analysis pool."""
    file.write_text(NETWORKS.format(niceness=settings.niceness))
    before = {name: os.environ.pop(name, None) for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    os.environ["GOMP_SPINCOUNT"] = str(settings.spins)
    alone, beside = Side(f"alone, {settings}", []), Side(f"beside, {settings}", [])
    local, jpeg = LocalAddresses(file), jpeg_of_60_kb()
    await local.start()
    try:
        [address] = await local.current()
        [(_, key)] = local.headers
        replica = Replica(address, None, "", local.headers, TritonMetrics(Metrics()))
        with server("triton", flags=["--triton-url", address, "--triton-key", key]) as front:
            async with AsyncClient(front.server) as client:
                await one_by_one(client, jpeg, CALLS, ROUND_SECONDS)
                for _ in turns(ROUNDS, str(settings)):
                    alone.values.extend(await one_by_one(client, jpeg, CALLS, ROUND_SECONDS))
                    attack = asyncio.create_task(analyse(replica))
                    await asyncio.sleep(1)
                    beside.values.extend(await one_by_one(client, jpeg, CALLS, ROUND_SECONDS))
                    attack.cancel()
                    await asyncio.gather(attack, return_exceptions=True)
        await replica.close()
    finally:
        await local.stop()
        del os.environ["GOMP_SPINCOUNT"]
        os.environ.update({name: value for name, value in before.items() if value is not None})
    return alone, beside


def run(json_file: Path | None) -> None:
    """Measures with and without the default niceness, and with other times to spin."""
    console, sides, ratios = Console(), list[Side](), list[str]()
    with tempfile.TemporaryDirectory() as folder:
        for settings in ALL:
            alone, beside = asyncio.run(measure(settings, Path(folder) / "networks.yaml"))
            sides += [alone, beside]
            ratios.append(f"{settings}: {p99(alone, beside)}")
            console.print(ratios[-1])
    title = "Classify ResNet-18 beside a busy analysis pool"
    show(title, "ms", sides, "\n".join(ratios), json_file)
