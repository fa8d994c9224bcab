"""The callers of the benchmark `stages`, a process of its own: a line of JSON for each RPC.

python -m benchmarks.stages_callers SERVER METRICS CALLERS SECONDS RPC... <PICTURE

One RPC after the other, since the server's metrics do not tell whose stages they are.
"""

import asyncio
import json
import sys
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeAlias
from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families

from convlens.client import AsyncClient
from convlens.client.methods import PGD, ClassModel, Occlusion, Saliency

Ask: TypeAlias = Callable[[AsyncClient, bytes], Awaitable[object]]
# Of Attack and Synthesize: a few, so that some seconds hold some calls.
STEPS = 4
TIMEOUT = 600.0
ASKS: Mapping[str, Ask] = {
    "Classify": lambda client, picture: client.classify(picture),
    "ExtractFeatures": lambda client, picture: client.extract_features(picture, "cnn-code"),
    "Explain-saliency": lambda client, picture: client.explain(picture, Saliency()),
    "Explain-occlusion": lambda client, picture: client.explain(
        picture, Occlusion(window=56, stride=56)
    ),
    "Attack-PGD": lambda client, picture: client.attack(
        picture, PGD(steps=STEPS), stop_at_success=False
    ),
    "Synthesize": lambda client, picture: client.synthesize_to_end(
        ClassModel(steps=STEPS), target=3
    ),
}


def totals(metrics: str) -> dict[str, float]:
    """What the server has counted so far: seconds of each stage and of all calls, and calls."""
    with urlopen(f"http://{metrics}/metrics") as page:
        families = list(text_string_to_metric_families(page.read().decode()))
    found = defaultdict[str, float](float)
    for sample in (sample for family in families for sample in family.samples):
        match sample.name:
            case "convlens_stage_seconds_sum":
                found[sample.labels["stage"]] += sample.value
            case "convlens_request_seconds_sum":
                found["call"] += sample.value
            case "convlens_request_seconds_count":
                found["calls"] += sample.value
            case _:
                pass
    return found


async def load(
    client: AsyncClient, ask: Ask, picture: bytes, callers: int, seconds: float
) -> list[float]:
    """Seconds of each call; every caller asks again as soon as it is answered, once at least."""
    taken, until = list[float](), time.perf_counter() + seconds

    async def caller() -> None:
        now = time.perf_counter()
        while True:
            started = now
            await ask(client, picture)
            now = time.perf_counter()
            taken.append(now - started)
            if now >= until:
                return

    await asyncio.gather(*(caller() for _ in range(callers)))
    return taken


async def measure(
    server: str, metrics: str, callers: int, seconds: float, rpcs: Sequence[str], picture: bytes
) -> None:
    """Writes the line of each RPC; the first call of each is not counted.

    Raises RuntimeError where the server has counted other calls than these.
    """
    async with AsyncClient(server, timeout=TIMEOUT, max_attempts=1) as client:
        for rpc in rpcs:
            await ASKS[rpc](client, picture)
            before, started = totals(metrics), time.perf_counter()
            taken = await load(client, ASKS[rpc], picture, callers, seconds)
            wall = time.perf_counter() - started
            served = {name: each - before.get(name, 0) for name, each in totals(metrics).items()}
            if served.pop("calls") != len(taken):
                raise RuntimeError("somebody else asks this server")
            line = {"rpc": rpc, "calls": len(taken), "wall": wall, "caller": sum(taken)}
            print(json.dumps({**line, "served": served}), flush=True)


if __name__ == "__main__":
    address, port, count, length, *names = sys.argv[1:]
    body = sys.stdin.buffer.read()
    asyncio.run(measure(address, port, int(count), float(length), names, body))
