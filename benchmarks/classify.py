"""Classify at saturation, the whole stack, against the bare network in a loop."""

import asyncio
import io
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import PIL.Image
import psutil
import torch
from numpy.typing import NDArray
from rich.console import Console

from benchmarks.common import RESNET18, Address, Side, jpeg_of_60_kb, rate_of, server, show, turns
from convlens.client import AsyncClient
from convlens.client._images import to_image
from convlens.v1.image_pb2 import Image
from convlens.workers.catalog import load_network
from convlens.workers.config import NetworkEntry
from convlens.workers.images import Limits, prepare, read_image

Pixels: TypeAlias = NDArray[np.uint8]
ROUNDS = 3
IMAGES = 768
ROWS = 32
# What is in flight: enough for the next pass to wait while one is computed, in either layout.
IN_FLIGHT = 128
HOPS = ("client", "server", "Triton", "worker")


@dataclass(frozen=True)
class Layout:
    """How the inference pool uses the cores, and how many images a call brings."""

    name: str
    pool: str
    images_per_call: int = 1
    pixels: bool = False


ALL_CORES = "{}"
ONE_EACH = f"{{instances: {os.cpu_count()}, threads: 1}}"
LAYOUTS = [
    Layout("one worker", ALL_CORES),
    Layout("one worker, 16 images a call", ALL_CORES, images_per_call=16),
    Layout("one worker, uint8 pixels", ALL_CORES, pixels=True),
    Layout("a worker for each core", ONE_EACH),
]


def pixels_of_224() -> Pixels:
    """A photograph as the network takes it, uint8 [224, 224, 3]."""
    photograph = PIL.Image.open(io.BytesIO(jpeg_of_60_kb()))
    return np.asarray(photograph.resize((224, 224)))


def bare_loop(image: Image) -> Callable[[], float]:
    """Images per second of the network alone, fed by the same decoder in threads."""
    network = load_network(
        NetworkEntry(name="resnet18", builder="torchvision:resnet18", weights="random"), "cpu"
    )
    network.warm_up(ROWS)
    executor = ThreadPoolExecutor()
    facts = network.facts

    def decode(_: int) -> torch.Tensor:
        pixels = read_image(image, Limits(), facts.input)
        return prepare(pixels, facts.input, image.geometry, facts.name).tensor

    def measure() -> float:
        started = time.perf_counter()
        for _ in range(IMAGES // ROWS):
            network.logits(torch.stack(list(executor.map(decode, range(ROWS)))))
        return IMAGES / (time.perf_counter() - started)

    return measure


async def saturate(
    address: str, picture: bytes | Pixels, per_call: int, images: int = IMAGES
) -> float:
    """Images per second through the server: how fast answers come in the middle of the run."""
    left, times = iter(range(images // per_call)), list[float]()

    async def caller(client: AsyncClient) -> None:
        for _ in left:
            await client.classify(picture if per_call == 1 else [picture] * per_call)
            times.append(time.perf_counter())

    async with AsyncClient(address) as client:
        await asyncio.gather(*(caller(client) for _ in range(IN_FLIGHT // per_call)))
    return per_call * rate_of(times)


def cpu_seconds(address: Address) -> dict[str, float]:
    """The time that each hop has had of the processors so far."""
    mine = psutil.Process().cpu_times()
    seconds = dict.fromkeys(HOPS, 0.0) | {"client": mine.user + mine.system}
    server_process = psutil.Process(address.pid)
    for process in (server_process, *server_process.children(recursive=True)):
        name, times = process.name(), process.cpu_times()
        hop = "worker" if "stub" in name else "Triton" if "triton" in name else "server"
        seconds[hop] += times.user + times.system
    return seconds


def measure(layout: Layout) -> tuple[Side, Side, str]:
    """The bare network, the whole stack, and each hop's share of the processors."""
    picture = pixels_of_224() if layout.pixels else jpeg_of_60_kb()
    bare = bare_loop(to_image(picture))
    bare()
    alone, served = Side(f"bare network ({layout.name})", []), Side(layout.name, [])
    spent = dict.fromkeys(HOPS, 0.0)
    networks = f"{RESNET18}pools: {{inference: {layout.pool}}}\n"
    with server("triton-local", networks) as address:
        asyncio.run(saturate(address.server, picture, layout.images_per_call))
        for _ in turns(ROUNDS, layout.name):
            alone.values.append(bare())
            before = cpu_seconds(address)
            rate = asyncio.run(saturate(address.server, picture, layout.images_per_call))
            served.values.append(rate)
            after = cpu_seconds(address)
            spent = {hop: spent[hop] + after[hop] - before[hop] for hop in HOPS}
    total = sum(spent.values())
    shares = ", ".join(
        f"{hop} {spent[hop] / total:.1%} ({spent[hop] / ROUNDS / IMAGES * 1e3:.2f} ms an image)"
        for hop in HOPS
    )
    ratio = served.median / alone.median
    return alone, served, f"{layout.name}: {ratio:.1%} of the bare network; CPU: {shares}"


def run(json_file: Path | None) -> None:
    """Alternates bare and served for each layout; the limit is 95 % on a CPU."""
    console, sides, ratios = Console(), list[Side](), list[str]()
    for layout in LAYOUTS:
        alone, served, ratio = measure(layout)
        sides += [alone, served]
        ratios.append(ratio)
        console.print(ratio)
    show("Classify ResNet-18 at 224 px", "images/s", sides, "\n".join(ratios), json_file)
