"""What tests of fooling images share: a small network, tasks, and runs that are told on the way."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from convlens.contract.rules import with_defaults
from convlens.workers.runner import Pass, Steps
from convlens.workers.synthesizers.growth import Growth
from convlens.workers.synthesizers.memory import Memory
from convlens.workers.synthesizers.task import Task
from tests.workers.methods.small import Small, run

CLASSES = 5
SIZE = 12


def network(channels: int = 3, seed: int = 0) -> nn.Module:
    """A random network in double precision, whose classes are far from each other."""
    torch.manual_seed(seed)
    module = nn.Sequential(
        nn.Conv2d(channels, 8, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 8, 3),
        nn.Softplus(),
        nn.Flatten(),
        nn.Linear(8 * 4 * 4, CLASSES),
    ).double()
    for weight in module.parameters():
        weight.data *= 2
    return module.requires_grad_(False)


def task(
    channels: int = 3, canvas: int = SIZE, seed: int = 0, memory: Memory | None = None
) -> Task:
    """One for a network of `SIZE` pixels; a canvas of another size is seen smaller or larger."""
    mean = torch.linspace(0.4, 0.6, channels, dtype=torch.float64).view(-1, 1, 1)
    shape, seen = (channels, canvas, canvas), (channels, SIZE, SIZE)
    return Task(shape, seen, mean, torch.full_like(mean, 0.2), seed, memory=memory)


def filled(message: Any) -> Any:
    """With every default."""
    return with_defaults(message)


class Watched:
    """A method, and what it told at each pass: as a runner sees it."""

    def __init__(self, steps: Steps[Growth]) -> None:
        self.steps = steps
        self.told: list[Growth | None] = []
        self.shown: list[Tensor] = []
        self.passes: list[Pass] = []

    def watch(self) -> Steps[Growth]:
        answer: Any = None
        while True:
            try:
                wanted = self.steps.send(answer)
            except StopIteration as end:
                return end.value
            assert isinstance(wanted, Pass)
            assert wanted.so_far is not None
            self.passes.append(wanted)
            told: Any = wanted.so_far()
            self.told.append(told)
            self.shown.append(wanted.points[0 : len(wanted.points)])
            answer = yield wanted


def grown(module: nn.Module | Small, steps: Steps[Growth]) -> Growth:
    found = run(module, steps)
    assert isinstance(found, Growth)
    return found


def same_growth(a: Growth, b: Growth) -> None:
    """To the last bit."""
    assert a.step == b.step
    same_state(a.state, b.state)
    assert len(a.sketches) == len(b.sketches)
    for one, other in zip(a.sketches, b.sketches, strict=True):
        assert (one is None) == (other is None)
        if one and other:
            assert torch.equal(one.pixels, other.pixels)
            assert (one.steps, one.objective, one.probability) == (
                other.steps,
                other.objective,
                other.probability,
            )
            assert (one.terms, one.confident) == (other.terms, other.confident)


def same_state(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> None:
    assert a.keys() == b.keys()
    for name, value in a.items():
        assert value.dtype == b[name].dtype
        assert torch.equal(value, b[name]), name
