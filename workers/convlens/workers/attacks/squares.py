"""The changes that Square tries: where, how large, and what is in them, for each norm."""

from abc import ABC, abstractmethod
from types import EllipsisType
from typing import TypeAlias

import torch
from torch import Generator, Tensor

from convlens.workers.attacks.attempt import Task
from convlens.workers.attacks.budget import L2, Budget, Linf, length_of

# Which values of pictures [channels, height, width].
Window: TypeAlias = tuple[EllipsisType, slice, slice]

# The first pictures of an attack in L2 have so many bumps from edge to edge.
_BUMPS = 5


class Squares(ABC):
    """Proposes allowed pictures near x; all that is random is drawn from the generator."""

    def __init__(self, task: Task, budget: Budget) -> None:
        self.x = task.x
        self.budget = budget
        self.channels, self.height, self.width = task.x.shape

    @abstractmethod
    def first(self, generator: Generator) -> Tensor:
        """Where the search begins."""

    @abstractmethod
    def next(self, pixels: Tensor, share: float, generator: Generator) -> Tensor:
        """Pixels with one square changed, that covers a share of the picture."""

    def _window(self, side: int, generator: Generator) -> Window:
        """A square anywhere in the picture, cut to its height and width where it is larger."""

        def place(extent: int) -> slice:
            length = min(side, extent)
            start = int(torch.randint(extent - length + 1, (), generator=generator))
            return slice(start, start + length)

        return (..., place(self.height), place(self.width))

    def _signs(self, generator: Generator, width: int = 1) -> Tensor:
        """1 or -1 for each channel [channels, 1, width]."""
        bits = torch.randint(2, (self.channels, 1, width), generator=generator)
        return (2 * bits - 1).to(self.x)

    def _side(self, share: float) -> int:
        return round((share * self.height * self.width) ** 0.5)


class LinfSquares(Squares):
    """Every value at the edge of what is allowed: Algorithm 2, and stripes to begin with."""

    def first(self, generator: Generator) -> Tensor:
        """Vertical stripes, one pixel wide."""
        return self.budget.project(
            self.x + self.budget.epsilon * self._signs(generator, self.width)
        )

    def next(self, pixels: Tensor, share: float, generator: Generator) -> Tensor:
        """One sign for each channel of the square."""
        window = self._window(max(self._side(share), 1), generator)
        moved = pixels.clone()
        moved[window] += 2 * self.budget.epsilon * self._signs(generator)
        return self.budget.project(moved)


class L2Squares(Squares):
    """Moves length from one square to another: Algorithm 3, and a grid of bumps to begin with."""

    def first(self, generator: Generator) -> Tensor:
        """Five bumps from edge to edge both ways, all together as long as is allowed."""
        change = torch.zeros_like(self.x)
        for rows in _tiles(self.height):
            for columns in _tiles(self.width):
                change[..., rows, columns] = self._bump(change[..., rows, columns], generator)
        return self.budget.project(self.x + change * (self.budget.epsilon / length_of(change)))

    def next(self, pixels: Tensor, share: float, generator: Generator) -> Tensor:
        """What the second square has, and what nothing has, goes into the first (in place)."""
        side = max(self._side(share), 3) // 2 * 2 + 1
        into, out = self._window(side, generator), self._window(side, generator)
        change = pixels - self.x
        bump = self._bump(change[into], generator)
        way = bump + _unit(change[into])
        # In a window of one pixel, they may cancel out.
        way = torch.where(_lengths(way) > 0, _unit(way), bump)
        unused = max(self.budget.epsilon**2 - length_of(change) ** 2, 0) / self.channels
        left = change.clone()
        left[out] = 0
        left[into] = 0
        available = (_lengths(change - left) ** 2 + unused).sqrt()
        left[into] = way * available
        return self.budget.project(self.x + left)

    def _bump(self, like: Tensor, generator: Generator) -> Tensor:
        """In each channel two opposite bumps, one beside the other or above it, of length 1."""
        height, width = like.shape[1:]
        if torch.randint(2, (), generator=generator):
            bumps = _opposite_bumps(height, width)
        else:
            bumps = _opposite_bumps(width, height).T
        return self._signs(generator) * bumps.to(like)


def squares_of(task: Task, budget: Budget) -> Squares:
    """The squares for a budget."""
    kinds: dict[type[Budget], type[Squares]] = {Linf: LinfSquares, L2: L2Squares}
    return kinds[type(budget)](task, budget)


def _tiles(extent: int) -> list[slice]:
    """Five pieces of the same length, as near to the edges as they come."""
    length, count = max(extent // _BUMPS, 1), min(extent, _BUMPS)
    margin = (extent - length * count) // 2
    return [slice(margin + n * length, margin + (n + 1) * length) for n in range(count)]


def _opposite_bumps(height: int, width: int) -> Tensor:
    """One above the other [height, width], together of length 1."""
    upper = height // 2
    both = torch.cat([_bump(upper, width), -_bump(height - upper, width)])
    return both / length_of(both)


def _bump(height: int, width: int) -> Tensor:
    """Falls off from the middle [height, width], as equation 2 has it."""
    rows = (torch.arange(height) - height // 2).abs()
    columns = (torch.arange(width) - width // 2).abs()
    distance = torch.maximum(rows[:, None], columns[None])
    rings = 1 / torch.arange(1, max(height, width) // 2 + 2, dtype=torch.float64) ** 2
    return rings.flip(0).cumsum(0).flip(0)[distance]


def _lengths(change: Tensor) -> Tensor:
    """Euclidean length of each channel [channels, 1, 1]."""
    return change.square().sum(dim=(1, 2), keepdim=True).sqrt()


def _unit(change: Tensor) -> Tensor:
    """Each channel at length 1; 0 where it is 0."""
    lengths = _lengths(change)
    return change / torch.where(lengths > 0, lengths, 1)
