"""The evolution of fooling images: offspring of the best pictures of all classes."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Generic, TypeAlias, TypeVar, cast

import torch
from torch import Generator, Tensor

from convlens.v1 import synthesis_methods_pb2 as methods
from convlens.workers.methods.randomness import generator_of
from convlens.workers.runner import Pass, Steps
from convlens.workers.synthesizers.archive import NONE, Archive, Drawing, Elite, probability_of
from convlens.workers.synthesizers.growth import Growth, Sketch
from convlens.workers.synthesizers.memory import Memory, broken
from convlens.workers.synthesizers.task import Task

G = TypeVar("G")
Settings: TypeAlias = methods.FoolingDirect | methods.FoolingCppn


class Encoding(ABC, Generic[G]):
    """How pictures are written in genomes."""

    @abstractmethod
    def random(self, generator: Generator) -> G:
        """A genome of the first generation."""

    @abstractmethod
    def mutated(self, genome: G, generation: int, generator: Generator) -> G:
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

    def __len__(self) -> int:
        return len(self._parents)

    def __getitem__(self, rows: slice, /) -> Tensor:
        genomes = [self._genome(row) for row in range(*rows.indices(len(self)))]
        return self._task.see(self._encoding.drawn(genomes))

    def drawing(self, row: int) -> Drawing[G]:
        """What a row is."""
        genome = self._genome(row)
        return Drawing(genome, self._encoding.drawn([genome])[0])

    def _genome(self, row: int) -> G:
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
        self.archive: Archive[G] = Archive([None] * len(targets))
        if task.memory:
            self.generation = task.memory.whole("generation", 0, _MOST_GENERATIONS)
            self.archive = Archive(self._recall(task.memory, len(targets)))

    def brood(self, offspring: int) -> Brood[G]:
        """The next generation; its parents are drawn from the archive, each class as often."""
        genomes = self.archive.genomes
        parents: list[G | None] = [None] * offspring
        if genomes:
            generator = generator_of(self._task.seed, "parents", self.generation)
            drawn = torch.randint(len(genomes), (offspring,), generator=generator)
            chosen = cast("list[int]", drawn.tolist())
            parents = [genomes[choice] for choice in chosen]
        return Brood(self._task, self._encoding, self.generation, parents)

    def take(self, brood: Brood[G], probabilities: Tensor) -> None:
        """Ends a generation; `probabilities` [offspring, classes] are those of its pictures."""
        self.generation += 1
        self.archive.offer(probabilities, self.generation, brood.drawing)

    def growth(self) -> Growth:
        """The best pictures, and what it takes to go on from them."""
        elites = self.archive.elites
        state = {
            "generation": torch.tensor(self.generation),
            "probabilities": torch.tensor([probability_of(e) for e in elites], dtype=torch.float64),
            "generations": torch.tensor([e.generation if e else 0 for e in elites]),
            "genomes": self._encoding.packed(self.archive.genomes),
        }
        return Growth(self.generation, [self._sketch(elite) for elite in elites], state)

    def _sketch(self, elite: Elite[G] | None) -> Sketch | None:
        if elite is None:
            return None
        probability = elite.probability
        return Sketch(
            elite.drawing.pixels,
            elite.generation,
            objective=probability,
            probability=probability,
            confident=probability >= self._confidence,
        )

    def _recall(self, memory: Memory, classes: int) -> list[Elite[G] | None]:
        like = torch.zeros(classes, dtype=torch.float64)
        chances = memory.take("probabilities", like, NONE, 1)
        born = memory.take("generations", like.long(), 0, self.generation)
        probabilities = cast("list[float]", chances.tolist())
        generations = cast("list[int]", born.tolist())
        if any(NONE < probability < 0 for probability in probabilities):
            raise broken()
        count = sum(probability != NONE for probability in probabilities)
        genomes = iter(self._encoding.unpacked(memory, "genomes", count))
        return [
            None
            if probability == NONE
            else Elite(self._drawing(next(genomes)), probability, generation)
            for probability, generation in zip(probabilities, generations, strict=True)
        ]

    def _drawing(self, genome: G) -> Drawing[G]:
        return Drawing(genome, self._encoding.drawn([genome])[0])


# More than the protos allow.
_MOST_GENERATIONS = 10**6
