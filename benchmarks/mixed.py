"""The latency of Classify while callers of Attack and Explain keep the analysis pool full."""

import asyncio
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.common import RESNET18, Side, jpeg_of_60_kb, one_by_one, p99, server, show, turns
from convlens.client import AsyncClient

CALLERS, STEPS, CALLS, ROUNDS = 16, 40, 100, 3
# Until the pool is full, and until it has noticed that its callers are gone.
SETTLE_SECONDS = 3.0
# Of a round at most, where nothing isolates.
ROUND_SECONDS = 60.0


@contextmanager
def crowd(address: str, callers: int, steps: int, rates: list[float]) -> Generator[None]:
    """Callers at work inside the block; notes how many answers a second they got."""
    command = [sys.executable, "-m", "benchmarks.crowd", address, str(callers), str(steps)]
    started = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            # Its first answer says that it is at work.
            if not process.stdout.readline():
                raise RuntimeError("the callers of Attack and Explain ended early")
            time.sleep(SETTLE_SECONDS)
            yield
        finally:
            process.terminate()
        rest, _ = process.communicate()
    rates.append((1 + rest.count("\n")) / (time.perf_counter() - started))
    time.sleep(SETTLE_SECONDS)


async def classify(address: str, jpeg: bytes, calls: int) -> list[float]:
    """Milliseconds of each call, one at a time."""
    async with AsyncClient(address) as client:
        return await one_by_one(client, jpeg, calls, ROUND_SECONDS)


def run(
    json_file: Path | None,
    callers: int = CALLERS,
    steps: int = STEPS,
    calls: int = CALLS,
    rounds: int = ROUNDS,
) -> None:
    """By turns alone and beside them, through the whole stack; at most 2 times is wanted."""
    jpeg, rates = jpeg_of_60_kb(), list[float]()
    alone, beside = Side("alone", []), Side(f"beside {callers} callers", [])
    with server("triton-local", RESNET18) as address:
        asyncio.run(classify(address.server, jpeg, 10))
        for _ in turns(rounds, "mixed load"):
            alone.values.extend(asyncio.run(classify(address.server, jpeg, calls)))
            with crowd(address.server, callers, steps, rates):
                beside.values.extend(asyncio.run(classify(address.server, jpeg, calls)))
    answers = Side("answers a second of Attack and Explain", rates)
    title = "Classify ResNet-18 beside callers of Attack and Explain, triton-local"
    show(title, "ms", [alone, beside, answers], p99(alone, beside), json_file)
