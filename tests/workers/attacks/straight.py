"""Networks without bends: how far away their boundaries are is known."""

from itertools import combinations

import torch
from torch import Tensor, nn

from convlens.workers.attacks import Aim
from tests.workers.attacks.fooling import predicted

CLASSES = range(4)


def linear(
    seed: int, size: int = 12, offset: float = 0.0, scale: float = 1.0
) -> tuple[nn.Module, Tensor]:
    """Four classes of [1, size, size], and a grey picture in the middle of its bounds.

    All scores are `scale` times as large, and larger by `offset`, which changes no answer.
    """
    torch.manual_seed(seed)
    layer = nn.Linear(size * size, len(CLASSES)).double().requires_grad_(False)
    x = 0.5 + 0.1 * (torch.rand(1, size, size, dtype=torch.float64) - 0.5)
    layer.weight.mul_(scale)
    layer.bias.copy_(scale * torch.linspace(0.3, 0, 4) - layer.weight @ x.flatten() + offset)
    return nn.Sequential(nn.Flatten(), layer), x


def layer_of(network: nn.Module) -> nn.Linear:
    """The one layer of a linear network."""
    layer = network.get_submodule("1")
    assert isinstance(layer, nn.Linear)
    return layer


def gaps(network: nn.Module, x: Tensor, index: int) -> tuple[Tensor, Tensor]:
    """How much the other classes lead a class [3], and how that falls with the pixels [3, n]."""
    others = [k for k in CLASSES if k != index]
    weight = layer_of(network).weight
    scores = network(x[None])[0]
    return scores[others] - scores[index], weight[index] - weight[others]


def distance_to_boundary(network: nn.Module, x: Tensor, dual: float) -> float:
    """The least distance at which another class leads.

    `dual` is the norm of weights that belongs to that of distances: 2 to 2, and 1 to infinity.
    """
    leads, ways = gaps(network, x, predicted(network, x))
    return float((-leads / ways.norm(dual, dim=1)).min())


def length_to_success(network: nn.Module, x: Tensor, aim: Aim) -> float:
    """The Euclidean distance at which an aim is reached.

    With a target, the nearest place lies on the boundaries to some of the other classes.
    """
    if aim.target is None:
        return distance_to_boundary(network, x, 2)
    lacks, ways = gaps(network, x, aim.target)
    found: list[float] = []
    for count in (1, 2, 3):
        for chosen in map(list, combinations(range(3), count)):
            change = torch.linalg.pinv(ways[chosen]) @ lacks[chosen]
            if (ways @ change >= lacks - 1e-12).all():
                found.append(float(change.norm()))
    return min(found)
