"""Classify at saturation, the whole stack, against the bare network in a loop."""

import asyncio
import time
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.common import Address, Side, jpeg_of_60_kb, server, show
from convlens.client import AsyncClient
from convlens.v1.image_pb2 import Image
from convlens.workers.catalog import load_network
from convlens.workers.config import NetworkEntry
from convlens.workers.images import Limits, prepare, read_image

ROUNDS = 5
IMAGES = 512
ROWS = 32
CALLERS = 96


def bare_loop(jpeg: bytes) -> Callable[[], float]:
    """Images per second of the network alone, fed by the same decoder in threads."""
    network = load_network(
        NetworkEntry(name="resnet18", builder="torchvision:resnet18", weights="random"), "cpu"
    )
    network.warm_up(ROWS)
    executor = ThreadPoolExecutor()
    image, facts = Image(encoded=jpeg), network.facts

    def decode(_: int) -> torch.Tensor:
        pixels = read_image(image, Limits(), facts.input)
        return prepare(pixels, facts.input, image.geometry, facts.name).tensor

    def measure() -> float:
        started = time.perf_counter()
        for _ in range(IMAGES // ROWS):
            network.logits(torch.stack(list(executor.map(decode, range(ROWS)))))
        return IMAGES / (time.perf_counter() - started)

    return measure


async def saturate(address: str, jpeg: bytes) -> float:
    """Images per second through the server, one image a call, from many callers."""
    left = iter(range(IMAGES))

    async def caller(client: AsyncClient) -> None:
        for _ in left:
            await client.classify(jpeg)

    async with AsyncClient(address) as client:
        started = time.perf_counter()
        await asyncio.gather(*(caller(client) for _ in range(CALLERS)))
        return IMAGES / (time.perf_counter() - started)


def stage_shares(address: Address) -> str:
    """What a job's time went to, from the server's own metrics."""
    with urllib.request.urlopen(f"http://{address.metrics}/metrics", timeout=10) as page:
        text = page.read().decode()
    means: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        if family.name == "convlens_stage_seconds":
            sums = {s.labels["stage"]: s.value for s in family.samples if s.name.endswith("_sum")}
            counts = {
                s.labels["stage"]: s.value for s in family.samples if s.name.endswith("_count")
            }
            means = {stage: sums[stage] / counts[stage] * 1e3 for stage in sums if counts[stage]}
    return ", ".join(f"{stage} {value:.2f} ms" for stage, value in means.items())


def run(engine: str, json_file: Path | None) -> None:
    """Alternates both sides and prints the ratio; the limit is 95 % on a CPU."""
    jpeg = jpeg_of_60_kb()
    bare = bare_loop(jpeg)
    alone, served = Side("bare network", []), Side(f"ConvLens, {engine}", [])
    with server(engine) as address:
        asyncio.run(saturate(address.server, jpeg))
        bare()
        for _ in range(ROUNDS):
            alone.values.append(bare())
            served.values.append(asyncio.run(saturate(address.server, jpeg)))
        shares = stage_shares(address)
    ratio = f"{served.median / alone.median:.1%} of the bare network; per image: {shares}"
    show("Classify ResNet-18 at 224 px from JPEG", "images/s", [alone, served], ratio, json_file)
