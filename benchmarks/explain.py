"""Explanations: many callers at once against one after the other, and methods against captum."""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import torch
from captum import attr as captum  # pyright: ignore[reportMissingTypeStubs]
from torch import Tensor

from benchmarks.common import RESNET18, Side, jpeg_of_60_kb, server, show
from convlens.client import Client
from convlens.client.methods import (
    GradCam,
    GuidedBackprop,
    InputXGradient,
    IntegratedGradients,
    Occlusion,
    Saliency,
    SmoothGrad,
)
from convlens.v1.image_pb2 import Image
from convlens.workers.catalog import load_network
from convlens.workers.config import NetworkEntry
from convlens.workers.images import Limits, prepare, read_image

CALLERS, ROUNDS = 32, 5
STEPS, SAMPLES, WINDOW = 16, 16, 56
CLASS = 3
# What the callers ask for, in turn.
MIX: Sequence[Any] = (
    Saliency(),
    InputXGradient(),
    SmoothGrad(samples=SAMPLES),
    IntegratedGradients(steps=STEPS, max_steps=STEPS),
    GuidedBackprop(),
    GradCam(),
    Occlusion(window=WINDOW, stride=WINDOW),
    [Saliency(), GradCam(), GuidedBackprop()],
)


def run(json_file: Path | None) -> None:
    """ResNet-18 at 224 px behind the embedded engine, from the same JPEG."""
    picture = jpeg_of_60_kb()
    with server("embedded", RESNET18) as address, Client(address.server, timeout=600) as client:
        callers = crowd(client, picture)
        methods = beside_captum(client, picture)
    sides = [*callers, *methods]
    ratios = [f"32 callers at once: {callers[0].median / callers[1].median:.2f} times the rate"]
    for ours, theirs in zip(methods[::2], methods[1::2], strict=True):
        ratio = theirs.median / ours.median
        ratios.append(f"{ours.name}: {ratio:.2f} times as fast as captum")
    show("Explain with ResNet-18", "ms", sides, "\n".join(ratios), json_file)


def crowd(client: Client, picture: bytes) -> list[Side]:
    """The same jobs one after the other, and all at once."""
    jobs = [MIX[number % len(MIX)] for number in range(CALLERS)]

    def ask(methods: Any) -> None:
        client.explain(picture, methods, targets=CLASS)

    def at_once() -> None:
        start = threading.Barrier(CALLERS)

        def begin(methods: Any) -> None:
            start.wait()
            ask(methods)

        with ThreadPoolExecutor(CALLERS) as callers:
            list(callers.map(begin, jobs))

    def in_turn() -> None:
        for methods in jobs:
            ask(methods)

    return timed({"one after the other": in_turn, "32 callers at once": at_once})


def beside_captum(client: Client, picture: bytes) -> list[Side]:
    """Each method over gRPC, decoding and all, and captum's on the same network, from pixels."""
    entry = NetworkEntry(name="resnet18", builder="torchvision:resnet18", weights="random")
    network = load_network(entry, "cpu")
    size = network.facts.input
    pixels = read_image(Image(encoded=picture), Limits(), size)
    x = prepare(pixels, size, Image().geometry, "resnet18").tensor[None]
    module: Any = network.module
    x = x.to(memory_format=torch.channels_last)
    grey, box = torch.full_like(x, 0.5), (3, WINDOW, WINDOW)
    theirs: dict[str, tuple[Any, Callable[[Tensor], Any]]] = {
        "saliency": (Saliency(), lambda x: captum.Saliency(module).attribute(x, CLASS)),
        "integrated gradients": (
            IntegratedGradients(steps=STEPS, max_steps=STEPS),
            lambda x: captum.IntegratedGradients(module).attribute(
                x, target=CLASS, n_steps=STEPS, method="riemann_middle"
            ),
        ),
        "guided backprop": (
            GuidedBackprop(),
            lambda x: captum.GuidedBackprop(module).attribute(x, CLASS),
        ),
        "Grad-CAM": (
            GradCam(),
            lambda x: captum.LayerGradCam(module, module.body.layer4).attribute(x, CLASS),
        ),
        "occlusion": (
            Occlusion(window=WINDOW, stride=WINDOW),
            lambda x: captum.Occlusion(module).attribute(
                x, box, strides=box, target=CLASS, baselines=grey, perturbations_per_eval=8
            ),
        ),
    }
    sides: list[Side] = []
    for name, (method, way) in theirs.items():
        ways: dict[str, Callable[[], object]] = {
            name: partial(client.explain, picture, method, targets=CLASS),
            f"{name}, captum": partial(_attributed, way, x),
        }
        sides += timed(ways)
    return sides


def _attributed(way: Callable[[Tensor], object], x: Tensor) -> object:
    return way(x.clone().requires_grad_())


def timed(ways: dict[str, Callable[[], object]]) -> list[Side]:
    """Milliseconds of each way, in turns, after a first turn that does not count."""
    sides = {name: Side(name, []) for name in ways}
    for turn in range(ROUNDS + 1):
        for name, way in ways.items():
            started = time.perf_counter()
            way()
            if turn:
                sides[name].values.append((time.perf_counter() - started) * 1000)
    return list(sides.values())
