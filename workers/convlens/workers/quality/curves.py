"""Deletion and insertion: how the probability goes when the strongest pixels go or come first."""

from dataclasses import dataclass

import torch
from torch import Tensor

from convlens.v1 import quality_pb2
from convlens.workers.runner import Pass, Steps


@dataclass(frozen=True)
class Curve:
    """The probability of the target after each step [steps + 1], and the area under it.

    The area is that over [0, 1], by the trapezoid rule.
    """

    probabilities: Tensor
    area: float


@dataclass(frozen=True)
class Uncovered:
    """Pictures that show `first` at the strongest pixels, up to a count, and `second` elsewhere.

    `ranks` [height, width] are the places of the pixels in the order of their strength.
    """

    ranks: Tensor
    first: Tensor
    second: Tensor
    counts: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.counts)

    def __getitem__(self, rows: slice, /) -> Tensor:
        counts = torch.tensor(self.counts[rows], device=self.ranks.device).view(-1, 1, 1, 1)
        return torch.where(self.ranks < counts, self.first, self.second)


def deletion(
    x: Tensor, map_: Tensor, target: int, p: quality_pb2.Deletion, fill: Tensor
) -> Steps[Curve]:
    """Covers the pixels of x [channels, height, width] with those of `fill`, the strongest first.

    The map [height, width], or with channels behind, which are added, ranks pixels by its values:
    where it has signs, what speaks for the target goes first. Among equals the upper left goes
    first. Petsiuk et al. 2018, arXiv:1806.07421, section 4.1.
    """
    return _curve(
        Uncovered(ranks(map_).to(x.device), fill, x, tuple(portions(map_, p.steps))), target
    )


def insertion(
    x: Tensor, map_: Tensor, target: int, p: quality_pb2.Insertion, fill: Tensor
) -> Steps[Curve]:
    """Uncovers the pixels of x, which `fill` covers at first, the strongest first.

    As `deletion` in all else.
    """
    return _curve(
        Uncovered(ranks(map_).to(x.device), x, fill, tuple(portions(map_, p.steps))), target
    )


def _curve(pictures: Uncovered, target: int) -> Steps[Curve]:
    answer = yield Pass(pictures)
    probabilities = answer.scores.double().softmax(dim=1)[:, target].cpu()
    area = torch.trapezoid(probabilities, dx=1 / (len(pictures) - 1))
    return Curve(probabilities, float(area))


def ranks(map_: Tensor) -> Tensor:
    """The place of each pixel [height, width] in the order of strength, 0 for the strongest."""
    values = map_ if map_.ndim == 2 else map_.sum(dim=-1)
    order = values.flatten().argsort(descending=True, stable=True)
    places = torch.empty_like(order)
    places[order] = torch.arange(len(order), device=order.device)
    return places.view(values.shape)


def portions(map_: Tensor, steps: int) -> list[int]:
    """How many pixels are done after each step, from none to all."""
    pixels = map_.shape[0] * map_.shape[1]
    return [step * pixels // steps for step in range(steps + 1)]
