"""MAP-Elites: the best picture for each class."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Generic, TypeVar, cast

from torch import Tensor

G = TypeVar("G")


@dataclass(frozen=True, slots=True, eq=False)
class Drawing(Generic[G]):
    """A picture [channels, height, width] in [0, 1], and the genome that it is drawn from."""

    genome: G
    pixels: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Elite(Generic[G]):
    """The best picture for a class so far; the first generation is 1."""

    drawing: Drawing[G]
    probability: float
    generation: int


class Archive(Generic[G]):
    """The best picture for each of some classes, None for a class that has none yet.

    Mouret & Clune 2015, arXiv:1504.04909; its cells are classes.
    """

    def __init__(self, elites: Sequence[Elite[G] | None]) -> None:
        self.elites = list(elites)

    @property
    def genomes(self) -> list[G]:
        """Those of the classes that have one."""
        return [elite.drawing.genome for elite in self.elites if elite]

    def offer(
        self, probabilities: Tensor, generation: int, drawing: Callable[[int], Drawing[G]]
    ) -> None:
        """Takes what is better than what is there, of pictures with `probabilities` [n, classes].

        `drawing` gives the one of a row. A probability that is no number is never better, and of
        equally good pictures the first is kept.
        """
        best = probabilities.nan_to_num(NONE).max(0)
        values = cast("list[float]", best.values.tolist())
        rows = cast("list[int]", best.indices.tolist())
        drawn = cache(drawing)
        self.elites = [
            Elite(drawn(row), probability, generation) if probability > probability_of(old) else old
            for old, probability, row in zip(self.elites, values, rows, strict=True)
        ]

    def is_done(self, confidence: float) -> bool:
        """Whether every class has a picture of at least this probability."""
        return all(probability_of(elite) >= confidence for elite in self.elites)


def probability_of(elite: "Elite[G] | None") -> float:
    """What the best picture of a class has; below 0 where there is none."""
    return elite.probability if elite else NONE


NONE = -1.0
