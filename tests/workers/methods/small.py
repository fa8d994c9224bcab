"""Runs methods on any small network, in double precision, by the runner's own way to compute."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from convlens.workers.anatomy import Trace, trace
from convlens.workers.runner import Answer, Pass, Steps
from convlens.workers.runner.asking import Fork
from convlens.workers.runner.computing import compute
from convlens.workers.runner.rounds import Item, MicroBatch, Segment


class Small:
    """A network of the test, as the runner sees networks: a Body."""

    device = torch.device("cpu")

    def __init__(self, module: nn.Module, image: tuple[int, int, int] = (3, 12, 12)) -> None:
        self.module = module.double().eval().requires_grad_(False)
        self.trace: Trace = trace(self.module, image)
        #: How many were asked for.
        self.points = 0

    def place(self, pixels: Tensor) -> Tensor:
        return pixels.to(torch.float64, copy=True)

    def scores(self, pixels: Tensor) -> Tensor:
        return self.module(pixels)


def run(network: nn.Module | Small, steps: Steps[Any], rows: int = 4) -> Any:
    """What a method returns; its passes are computed a few points at a time."""
    body = network if isinstance(network, Small) else None
    answer: Any = None
    while True:
        try:
            wanted = steps.send(answer)
        except StopIteration as end:
            return end.value
        if isinstance(wanted, Fork):
            answer = [run(body or network, branch, rows) for branch in wanted.branches]
            continue
        if body is None:
            assert isinstance(network, nn.Module)
            _, channels, height, width = wanted.points[0:1].shape
            body = Small(network, (channels, height, width))
        *_, answer = _answers(body, steps, wanted, rows)


def _answers(body: Small, steps: Steps[Any], wanted: Pass, rows: int) -> Iterator[Answer | None]:
    item = Item(None, (0,), steps)
    item.ask(wanted)
    body.points += len(wanted.points)
    for start in range(0, len(wanted.points), rows):
        segment = Segment((item,), start, min(start + rows, len(wanted.points)))
        [[outcome]] = compute(body, MicroBatch(wanted.kind, rows, [segment]))
        if isinstance(outcome, Exception):
            raise outcome
        yield item.take(outcome)
