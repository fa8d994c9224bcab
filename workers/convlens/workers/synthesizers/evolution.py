"""The evolution of fooling images: offspring of the best pictures of all classes."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Generic, TypeAlias, TypeVar, cast

import torch
from torch import Tensor

from convlens.v1 import synthesis_methods_pb2 as methods
from convlens.workers.methods.randomness import generator_of
from convlens.workers.runner import Pass, Steps
from convlens.workers.synthesizers.archive import Archive, Elite
from convlens.workers.synthesizers.growth import Growth, Sketch
from convlens.workers.synthesizers.looks import looks_of
from convlens.workers.synthesizers.memory import Memory, broken
from convlens.workers.synthesizers.task import Task

G = TypeVar("G")
Settings: TypeAlias = methods.FoolingDirect | methods.FoolingCppn


class Encoding(ABC, Generic[G]):
    """How pictures are written in genomes, and how many looks they are told apart by."""

    #: Bins of brightness, and of detail.
    bins: int = 1

    @abstractmethod
    def random(self, generator: torch.Generator) -> G:
        """A genome of the first generation."""

    @abstractmethod
    def mutated(self, genome: G, generation: int, generator: torch.Generator) -> G:
        """A genome like the given one, after so many generations."""

    @abstractmethod
    def drawn(self, genomes: Sequence[G]) -> Tensor:
        """Their pictures [n, channels, height, width] in [0, 1], in 8 bits; each depends on its own
        genome alone.
        """

    @abstractmethod
    def packed(self, genomes: Sequence[G]) -> Tensor:
        """Genomes as uint8."""

    @abstractmethod
    def unpacked(self, memory: Memory, name: str, count: int) -> list[G]:
        """What `packed` wrote of so many; raises Failure INVALID_REQUEST where it did not."""


def evolve(
    task: Task, targets: Sequence[int], confidence: float, p: Settings, encoding: Encoding[G]
) -> Steps[Growth]:
    """MAP-Elites over the classes `targets`, until the evaluations do not suffice for a generation.

    It ends before where each has a picture of probability `confidence`. Pictures are shown in 8
    bits, so that a PNG holds what the network saw. Nguyen et al. 2014, arXiv:1412.1897, section 2.
    """
    evolution = _Evolution(task, targets, confidence, encoding)
    while evolution.generation < p.evaluations // p.offspring:
        if evolution.archive.is_done(confidence):
            break
        brood = evolution.brood(p.offspring)
        answer = yield Pass(brood, so_far=evolution.growth)
        evolution.take(brood, answer.scores.softmax(1)[:, list(targets)])
    return evolution.growth()


class Brood(Generic[G]):
    """The offspring of one generation as the network sees it; made when it is asked for."""

    def __init__(
        self, task: Task, encoding: Encoding[G], generation: int, parents: Sequence[G | None]
    ) -> None:
        self._task, self._encoding = task, encoding
        self._generation, self._parents = generation, parents
        #: The look of each picture, once it was asked for.
        self.looks = [0] * len(parents)

    def __len__(self) -> int:
        return len(self._parents)

    def __getitem__(self, rows: slice, /) -> Tensor:
        drawn = self._encoding.drawn([self.genome(row) for row in range(len(self))[rows]])
        self.looks[rows] = looks_of(drawn, self._encoding.bins)
        return self._task.see(drawn)

    def genome(self, row: int) -> G:
        """That of a row, the same each time."""
        generator = generator_of(self._task.seed, "offspring", self._generation, row)
        parent = self._parents[row]
        if parent is None:
            return self._encoding.random(generator)
        return self._encoding.mutated(parent, self._generation, generator)


class _Evolution(Generic[G]):
    """An archive, and how it came to be."""

    def __init__(
        self, task: Task, targets: Sequence[int], confidence: float, encoding: Encoding[G]
    ) -> None:
        self._task, self._confidence, self._encoding = task, confidence, encoding
        #: Generations done.
        self.generation = 0
        self.archive: Archive[G] = Archive(len(targets))
        # The best picture of each class, as it was last drawn.
        self._drawn: list[tuple[Elite[G], Tensor] | None] = [None] * len(targets)
        if task.memory:
            self.generation = task.memory.whole("generation", 0, _MOST_GENERATIONS)
            self.archive = Archive(len(targets), self._recall(task.memory, len(targets)))

    def brood(self, offspring: int) -> Brood[G]:
        """The next generation; the first one has no parents."""
        parents: Sequence[G | None] = [None] * offspring
        if self.archive.elites:
            generator = generator_of(self._task.seed, "parents", self.generation)
            parents = self.archive.parents(offspring, self._confidence, generator)
        return Brood(self._task, self._encoding, self.generation, parents)

    def take(self, brood: Brood[G], probabilities: Tensor) -> None:
        """Ends a generation; `probabilities` [offspring, classes] are those of its pictures."""
        self.generation += 1
        self.archive.offer(probabilities, brood.looks, self.generation, brood.genome)

    def growth(self) -> Growth:
        """The best pictures, and what it takes to go on from them."""
        elites = self.archive.elites
        state = {
            "generation": torch.tensor(self.generation),
            "count": torch.tensor(len(elites)),
            "cells": torch.tensor([e.cell for e in elites], dtype=torch.int64).view(-1, 2),
            "probabilities": torch.tensor([e.probability for e in elites], dtype=torch.float64),
            "generations": torch.tensor([e.generation for e in elites], dtype=torch.int64),
            "genomes": self._encoding.packed([elite.genome for elite in elites]),
        }
        sketches = [self._sketch(*each) for each in enumerate(self.archive.best())]
        return Growth(self.generation, sketches, state)

    def _sketch(self, position: int, elite: Elite[G] | None) -> Sketch | None:
        if elite is None:
            return None
        probability = elite.probability
        return Sketch(
            self._pixels(position, elite),
            elite.generation,
            objective=probability,
            probability=probability,
            confident=probability >= self._confidence,
        )

    def _pixels(self, position: int, elite: Elite[G]) -> Tensor:
        drawn = self._drawn[position]
        if drawn is None or drawn[0] is not elite:
            drawn = self._drawn[position] = elite, self._encoding.drawn([elite.genome])[0]
        return drawn[1]

    def _recall(self, memory: Memory, classes: int) -> list[Elite[G]]:
        looks = self._encoding.bins**2
        count = memory.whole("count", 0, classes * looks)
        like = torch.zeros(count, dtype=torch.int64)
        cells = memory.take("cells", torch.zeros(count, 2, dtype=torch.int64), 0)
        chances = memory.take("probabilities", like.double(), 0, 1)
        born = memory.take("generations", like, 0, self.generation)
        found = cast("list[tuple[int, int]]", list(map(tuple, cells.tolist())))  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
        if len(set(found)) < count or any(c >= classes or look >= looks for c, look in found):
            raise broken()
        numbers = cast("list[float]", chances.tolist()), cast("list[int]", born.tolist())
        genomes = self._encoding.unpacked(memory, "genomes", count)
        return [Elite(*each) for each in zip(found, genomes, *numbers, strict=True)]


# More than the protos allow.
_MOST_GENERATIONS = 10**6
