"""MAP-Elites: the best picture of each class and look."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Generic, TypeVar, cast

import torch
from torch import Generator, Tensor

G = TypeVar("G")


@dataclass(frozen=True, slots=True, eq=False)
class Elite(Generic[G]):
    """The best genome of a cell so far; the first generation is 1.

    A cell is a class by its position among those that are wanted, and a look.
    """

    cell: tuple[int, int]
    genome: G
    probability: float
    generation: int

    @property
    def rank(self) -> tuple[float, int]:
        """The higher, the better: of equally good ones, the first that was."""
        return self.probability, -self.generation


class Archive(Generic[G]):
    """The best picture of each cell, of some classes.

    Mouret & Clune 2015, arXiv:1504.04909; the looks are what it calls features. A class has many
    elites, as unlike as their looks, since offspring of the best one alone does not get far.
    """

    def __init__(self, classes: int, elites: Iterable[Elite[G]] = ()) -> None:
        self._classes = classes
        self._cells = {elite.cell: elite for elite in elites}

    @property
    def elites(self) -> list[Elite[G]]:
        """Those of all cells that have one, by class and look."""
        return [self._cells[cell] for cell in sorted(self._cells)]

    def best(self) -> list[Elite[G] | None]:
        """That of each class, None for one without; of equally good ones the first that was."""
        found: list[Elite[G] | None] = [None] * self._classes
        for elite in self.elites:
            best = found[elite.cell[0]]
            if best is None or elite.rank > best.rank:
                found[elite.cell[0]] = elite
        return found

    def offer(
        self,
        probabilities: Tensor,
        looks: Sequence[int],
        generation: int,
        genome: Callable[[int], G],
    ) -> None:
        """Takes what is better than what is there, of pictures with `probabilities` [n, classes].

        `genome` gives the one of a row. A probability that is no number is never better, and of
        equally good pictures the first is kept.
        """
        known = cache(genome)
        rows = cast("list[list[float]]", probabilities.tolist())  # pyright: ignore[reportUnknownMemberType]
        for row, (look, chances) in enumerate(zip(looks, rows, strict=True)):
            for position, chance in enumerate(chances):
                cell = position, look
                old = self._cells.get(cell)
                if chance > (old.probability if old else -1.0):
                    self._cells[cell] = Elite(cell, known(row), chance, generation)

    def is_done(self, confidence: float) -> bool:
        """Whether every class has a picture of at least this probability."""
        return all(elite and elite.probability >= confidence for elite in self.best())

    def parents(self, count: int, confidence: float, generator: Generator) -> list[G]:
        """Genomes of elites at random, half of them of classes that are not done.

        Raises IndexError where there are none at all.
        """
        done = [bool(best and best.probability >= confidence) for best in self.best()]
        elites = self.elites
        unfinished = [elite for elite in elites if not done[elite.cell[0]]] or elites
        draws = cast("list[list[float]]", torch.rand(count, 2, generator=generator).tolist())  # pyright: ignore[reportUnknownMemberType]
        return [
            pool[int(where * len(pool))].genome
            for which, where in draws
            for pool in [unfinished if which < _UNFINISHED else elites]
        ]


# Share of the parents that are drawn among those of classes that are not done.
_UNFINISHED = 0.5
