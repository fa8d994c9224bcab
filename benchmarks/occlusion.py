"""Exact occlusion: what a window changes, against whole passes and captum's sweep."""

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from captum import attr as captum  # pyright: ignore[reportMissingTypeStubs]
from rich.console import Console
from torch import Tensor

from benchmarks.common import Side, jpeg_of_60_kb, server, show, turns
from convlens.client import Client
from convlens.client.methods import Occlusion
from convlens.v1.image_pb2 import Image
from convlens.workers.catalog import load_network
from convlens.workers.config import NetworkEntry
from convlens.workers.images import Limits, prepare, read_image
from convlens.workers.incremental import Incremental, Plan
from convlens.workers.methods.occlusion import Grid

NETWORKS = ("vgg16", "alexnet", "googlenet", "resnet18", "resnet50", "inception_v3")
WINDOW, STRIDE, CLASS = 28, 14, 3
# Windows that captum computes at a time; the fastest of them counts.
AT_A_TIME = (1, 8, 32)
# Windows that are computed to find that out.
TRIED = 32


class Bare:
    """The same network in this process, and the same picture, read by the same code."""

    def __init__(self, name: str, picture: bytes, layout: torch.memory_format) -> None:
        entry = NetworkEntry(name=name, builder=f"torchvision:{name}", weights="random")
        self.network = load_network(entry, "cpu")
        self.module: Any = self.network.module.to(memory_format=layout)
        size = self.network.facts.input
        pixels = read_image(Image(encoded=picture), Limits(), size)
        x = prepare(pixels, size, Image().geometry, name).tensor[None]
        self.x = x.contiguous(memory_format=layout)

    def captum(self, at_a_time: int) -> Tensor:
        """captum's map."""
        box, strides = (3, WINDOW, WINDOW), (3, STRIDE, STRIDE)
        return captum.Occlusion(self.module).attribute(
            self.x, box, strides, baselines=0.5, target=CLASS, perturbations_per_eval=at_a_time
        )

    @torch.inference_mode()
    def passes(self, count: int, rows: int) -> None:
        """Whole passes for so many windows, some rows at a time."""
        for start in range(0, count, rows):
            chosen = self.x.expand(min(rows, count - start), -1, -1, -1)
            self.module(chosen.clone(memory_format=torch.preserve_format))

    def best(self) -> int:
        """How many windows at a time are fastest here, found with whole passes."""

        def seconds(rows: int) -> float:
            self.passes(rows, rows)
            started = time.perf_counter()
            self.passes(TRIED, rows)
            return time.perf_counter() - started

        return min(AT_A_TIME, key=seconds)


def ceiling(bare: Bare) -> float:
    """How many times fewer multiply-adds there are than in whole passes."""
    network = bare.network
    _, height, width = network.trace.image
    grid = Grid(height, width, WINDOW, STRIDE)
    engine = Incremental(network, network.steady, worth=float("inf"))
    plan = engine.plan(grid.rows, grid.columns, grid.lots)
    assert isinstance(plan, Plan), plan
    return 1 / plan.share


def measure(name: str, picture: bytes, rounds: int) -> tuple[list[Side], str]:
    """Ours over gRPC, captum's in both layouts, and whole passes; seconds."""
    plain = Bare(name, picture, torch.contiguous_format)
    last = Bare(name, picture, torch.channels_last)
    _, height, width = plain.network.trace.image
    windows = len(Grid(height, width, WINDOW, STRIDE))
    networks = f"networks: [{{name: {name}, builder: 'torchvision:{name}', weights: random}}]\n"
    with server("embedded", networks) as address, Client(address.server, timeout=600) as client:
        method = Occlusion(window=WINDOW, stride=STRIDE)
        ways: dict[str, Callable[[], object]] = {
            f"{name}": partial(client.explain, picture, method, targets=CLASS),
            f"{name}, captum as it comes": partial(plain.captum, plain.best()),
            f"{name}, captum, channels_last": partial(last.captum, last.best()),
            f"{name}, whole passes": partial(last.passes, windows, 8),
        }
        client.explain(picture, method, targets=CLASS)
        sides = [Side(way, []) for way in ways]
        for _ in turns(rounds, name):
            for side, way in zip(sides, ways.values(), strict=True):
                started = time.perf_counter()
                way()
                side.values.append(time.perf_counter() - started)
    ours, *others = (side.median for side in sides)
    most = ceiling(last)
    words = (
        f"{name}: {others[0] / ours:.2f} times as fast as captum as it comes, "
        f"{others[1] / ours:.2f} in channels_last, {others[2] / ours:.2f} of whole passes; at most "
        f"{most:.2f} by multiply-adds, of which it reaches {others[2] / ours / most:.0%}"
    )
    return sides, words


def run(json_file: Path | None, networks: Sequence[str], rounds: int) -> None:
    """Every network in turn, 224 px (Inception 299), windows of 28 pixels, 14 apart."""
    console, sides, ratios = Console(), list[Side](), list[str]()
    picture = jpeg_of_60_kb()
    for name in networks:
        found, words = measure(name, picture, rounds)
        sides += found
        ratios.append(words)
        console.print(words)
    show("Occlusion", "s", sides, "\n".join(ratios), json_file)
