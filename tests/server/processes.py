"""Several server processes in front of a Triton of a few lines, and how they are looked at."""

import asyncio
import json
import os
import sys
import urllib.request
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import psutil
from prometheus_client.parser import text_string_to_metric_families

from convlens.internal.v1.job_pb2 import Job
from convlens.v1.classification_pb2 import ClassifyRequest
from convlens.v1.image_pb2 import Image
from tests.server.fake_triton import FakeTriton

CLASSIFY = "/convlens.v1.ClassificationService/Classify"


class Holding(FakeTriton):
    """A Triton that holds on to callers' jobs while `free` is not set."""

    def __init__(self) -> None:
        super().__init__({"old@1": 1.0}, {})
        self.free = asyncio.Event()
        self.free.set()

    async def _think(self, job: Job) -> None:
        if job.method not in ("Describe", "Canary"):
            await self.free.wait()


class Running:
    """A server of several processes that serves."""

    def __init__(self, process: Process, serving: dict[str, Any]) -> None:
        self.process = process
        self._address: str = serving["address"]
        self.metrics: str = serving["metrics"]

    def pids(self) -> set[int]:
        return children(self.process.pid)

    async def classify(self) -> None:
        """A call over a connection of its own."""
        body = ClassifyRequest(images=[Image(encoded=b"x")]).SerializeToString()
        own = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
        async with grpc.aio.insecure_channel(self._address, own) as channel:
            call: Any = channel.unary_unary(CLASSIFY)
            assert (await call(body, timeout=20)).startswith(b"answered by old@1")

    async def samples(self) -> dict[str, float]:
        """What its metrics show, summed by name."""
        with await asyncio.to_thread(urllib.request.urlopen, f"http://{self.metrics}") as page:
            text = page.read().decode()
        found: dict[str, float] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                found[sample.name] = found.get(sample.name, 0.0) + sample.value
        return found


def children(pid: int) -> set[int]:
    """The live processes behind one; none where that is gone."""
    with suppress(psutil.NoSuchProcess):
        found = psutil.Process(pid).children(recursive=True)
        return {each.pid for each in found if each.status() != psutil.STATUS_ZOMBIE}
    return set()


@asynccontextmanager
async def started(triton: FakeTriton, folder: Path, *flags: str) -> AsyncGenerator[Process]:
    """Two processes in front of a Triton of a few lines, with a /tmp of their own."""
    command = [sys.executable, "-m", "convlens.server", "--engine", "triton", "--processes", "2"]
    command += ["--triton-url", triton.address, "--log-format", "json"]
    command += ["--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0", *flags]
    environment = {**os.environ, "TMPDIR": str(folder)}
    process = await asyncio.create_subprocess_exec(*command, env=environment, stderr=PIPE)
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


async def event(process: Process, name: str) -> dict[str, Any]:
    """Waits for this event in the log."""
    assert process.stderr
    async with asyncio.timeout(30):
        async for line in process.stderr:
            if (found := json.loads(line))["event"] == name:
                return found
    raise AssertionError(f"it ended without {name}")


async def serving(process: Process) -> Running:
    return Running(process, await event(process, "serving"))
