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

from benchmarks.common import RESNET18, Side, jpeg_of_60_kb, server, show, turns
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
CLASSES = range(10)
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


def run(json_file: Path | None, rounds: int) -> None:
    """ResNet-18 at 224 px behind the embedded engine, from the same JPEG."""
    picture = jpeg_of_60_kb()
    with server("embedded", RESNET18) as address, Client(address.server, timeout=600) as client:
        callers = crowd(client, picture, rounds)
        methods = beside_captum(client, picture, rounds)
        classes = ten_classes(client, picture, rounds)
    sides = [*callers, *methods, *classes]
    ratios = [f"32 callers at once: {callers[0].median / callers[1].median:.2f} times the rate"]
    for ours, theirs, plain, bare in zip(*(methods[n::4] for n in range(4)), strict=True):
        ratio, usual = theirs.median / ours.median, plain.median / ours.median
        share = ours.median / bare.median - 1
        ratios.append(
            f"{ours.name}: {ratio:.2f} times as fast as captum with our layout, {usual:.2f} as it "
            f"comes, bare + {share:.0%}"
        )
    for ours, theirs in zip(classes[::2], classes[1::2], strict=True):
        ratio = theirs.median / ours.median
        ratios.append(f"{ours.name}: {ratio:.2f} times as fast as captum")
    show("Explain with ResNet-18", "ms", sides, "\n".join(ratios), json_file)


def crowd(client: Client, picture: bytes, rounds: int) -> list[Side]:
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

    return timed({"one after the other": in_turn, "32 callers at once": at_once}, rounds)


class Bare:
    """The same network in this process, and the same picture, read by the same code.

    `as_it_comes` is what a caller of captum has who does nothing about it: weights that could have
    gradients, and the usual layout.
    """

    def __init__(self, picture: bytes, *, as_it_comes: bool = False) -> None:
        entry = NetworkEntry(name="resnet18", builder="torchvision:resnet18", weights="random")
        self.network = load_network(entry, "cpu")
        self._layout = torch.contiguous_format if as_it_comes else torch.channels_last
        module = self.network.module.to(memory_format=self._layout)
        self.module: Any = module.requires_grad_(as_it_comes)
        self._picture = picture

    def read(self) -> Tensor:
        """The picture [1, channels, height, width], ready to have gradients."""
        size = self.network.facts.input
        pixels = read_image(Image(encoded=self._picture), Limits(), size)
        x = prepare(pixels, size, Image().geometry, "resnet18").tensor[None]
        return x.to(memory_format=self._layout).requires_grad_()

    def attributed(self, way: Callable[[Tensor], object]) -> object:
        """What a way makes of the picture."""
        return way(self.read())

    def passes(self, gradients: int, forwards: int = 0) -> None:
        """So many passes, eight rows at a time and what is left over one by one."""
        x = self.read()
        for count, gradient in ((gradients, True), (forwards, False)):
            for rows in [8] * (count // 8) + [1] * (count % 8):
                points = x.detach().repeat(rows, 1, 1, 1).requires_grad_(gradient)
                with torch.set_grad_enabled(gradient):
                    scores = self.module(points)
                if gradient:
                    torch.autograd.grad(scores[:, CLASS].sum(), points)


def beside_captum(client: Client, picture: bytes, rounds: int) -> list[Side]:
    """Each method over gRPC, captum's in this process, and the passes of the network alone.

    captum's has our layout and frozen weights, and once more what it has as it comes. All of them
    begin with the bytes of the JPEG.
    """
    bare, plain = Bare(picture), Bare(picture, as_it_comes=True)
    sides: list[Side] = []
    for name, (method, way, (gradients, forwards)) in captums().items():
        ways: dict[str, Callable[[], object]] = {
            name: partial(client.explain, picture, method, targets=CLASS),
            f"{name}, captum": partial(bare.attributed, partial(way, bare.module)),
            f"{name}, captum as it comes": partial(plain.attributed, partial(way, plain.module)),
            f"{name}, passes alone": partial(bare.passes, gradients, forwards),
        }
        sides += timed(ways, rounds)
    return sides


def captums() -> dict[str, tuple[Any, Callable[[Any, Tensor], Any], tuple[int, int]]]:
    """Our method, captum's, and the passes that they need: with gradients and without."""
    grey, box = torch.full((1, 3, 224, 224), 0.5), (3, WINDOW, WINDOW)
    return {
        "saliency": (Saliency(), lambda net, x: captum.Saliency(net).attribute(x, CLASS), (1, 0)),
        "integrated gradients": (
            IntegratedGradients(steps=STEPS, max_steps=STEPS),
            lambda net, x: captum.IntegratedGradients(net).attribute(
                x, target=CLASS, n_steps=STEPS, method="riemann_middle"
            ),
            (STEPS, 2),
        ),
        "guided backprop": (
            GuidedBackprop(),
            lambda net, x: captum.GuidedBackprop(net).attribute(x, CLASS),
            (1, 0),
        ),
        "Grad-CAM": (
            GradCam(),
            lambda net, x: captum.LayerGradCam(net, net.body.layer4).attribute(x, CLASS),
            (1, 0),
        ),
        "occlusion": (
            Occlusion(window=WINDOW, stride=WINDOW),
            lambda net, x: captum.Occlusion(net).attribute(
                x, box, strides=box, target=CLASS, baselines=grey, perturbations_per_eval=8
            ),
            (0, 1 + (224 // WINDOW) ** 2),
        ),
    }


def ten_classes(client: Client, picture: bytes, rounds: int) -> list[Side]:
    """Ten classes of one picture in one call, and by captum one after the other."""
    bare = Bare(picture)
    module, grey = bare.module, torch.full((1, 3, 224, 224), 0.5)
    box = (3, WINDOW, WINDOW)

    def saliency(x: Tensor) -> None:
        for target in CLASSES:
            captum.Saliency(module).attribute(x, target)

    def occlusion(x: Tensor) -> None:
        for target in CLASSES:
            captum.Occlusion(module).attribute(
                x, box, strides=box, target=target, baselines=grey, perturbations_per_eval=8
            )

    sides: list[Side] = []
    theirs: dict[str, tuple[Any, Callable[[Tensor], None]]] = {"saliency": (Saliency(), saliency)}
    theirs["occlusion"] = Occlusion(window=WINDOW, stride=WINDOW), occlusion
    for name, (method, way) in theirs.items():
        ask = partial(client.explain, picture, method, targets=[*CLASSES])
        ways: dict[str, Callable[[], object]] = {
            f"{name}, ten classes": ask,
            f"{name}, ten classes, captum": partial(bare.attributed, way),
        }
        sides += timed(ways, rounds)
    return sides


def timed(ways: dict[str, Callable[[], object]], rounds: int) -> list[Side]:
    """Milliseconds of each way, in turns; each time it begins with one call that does not count.

    Threads of the way before spin for up to 15 ms after its end, on a core of the next, and the
    caches hold what was its own.
    """
    sides = {name: Side(name, []) for name in ways}
    for _ in turns(rounds, next(iter(ways))):
        for name, way in ways.items():
            way()
            started = time.perf_counter()
            way()
            sides[name].values.append((time.perf_counter() - started) * 1000)
    return list(sides.values())
