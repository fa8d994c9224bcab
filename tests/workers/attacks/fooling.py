"""Small networks to be fooled, and what attacks are given."""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from convlens.workers.attacks import Aim, Attempt, Task
from convlens.workers.attacks.attempt import Rounding
from convlens.workers.runner import Outputs, Steps
from tests.workers.methods.small import Small, run


def network(seed: int, channels: int = 3, side: int = 12, classes: int = 5) -> nn.Module:
    """A random network in double precision whose gradients are nowhere the same."""
    torch.manual_seed(seed)
    return (
        nn.Sequential(
            nn.Conv2d(channels, 8, 3, padding=1),
            nn.Softplus(),
            nn.MaxPool2d(2),
            nn.Conv2d(8, 8, 3),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(8 * (side // 2 - 2) ** 2, classes),
        )
        .double()
        .requires_grad_(False)
    )


class Offset(nn.Module):
    """Adds to the scores."""

    def __init__(self, offset: Tensor) -> None:
        super().__init__()
        self.offset = offset

    def forward(self, scores: Tensor) -> Tensor:
        return scores + self.offset


def undecided(seed: int, by: float = 0.1) -> tuple[nn.Module, Tensor]:
    """A network and a picture for which its scores are `by` apart, so that little fools it."""
    found, x = network(seed), picture(seed)
    offset = by * torch.arange(5) - found(x[None])[0]
    return nn.Sequential(found, Offset(offset)), x


def indifferent(*scores: float) -> nn.Module:
    """A network that gives every picture the same scores, so that all gradients are 0."""
    last = nn.Linear(3 * 12 * 12, len(scores)).requires_grad_(False)
    nn.init.zeros_(last.weight)
    last.bias.copy_(torch.tensor(scores))
    return nn.Sequential(nn.Flatten(), last).double()


def picture(seed: int, *shape: int) -> Tensor:
    """Noise, with some values at 0 and at 1."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(shape or (3, 12, 12), generator=generator, dtype=torch.float64)
    return (1.2 * noise - 0.1).clamp(0, 1)


def predicted(network: nn.Module, x: Tensor) -> int:
    return int(network(x[None]).argmax())


def task(network: nn.Module, x: Tensor, seed: int = 3, **given: Any) -> Task:
    """Away from what the network says; or with `rank`, to the class of that rank."""
    ranked = network(x[None])[0].argsort(descending=True).tolist()
    rank = given.pop("rank", None)
    return Task(x, Aim(ranked[0], None if rank is None else ranked[rank]), seed, **given)


def slope(network: nn.Module, x: Tensor, loss: Callable[[Outputs], Tensor]) -> tuple[float, Tensor]:
    """The loss at one picture and its gradient: the slow way."""
    x = x.clone().requires_grad_()
    value = loss(Outputs(network(x[None]), {}))[0]
    value.backward()
    assert x.grad is not None
    return float(value.detach()), x.grad


def lead(network: nn.Module, aim: Aim, x: Tensor) -> float:
    return float(aim.lead(network(x[None])))


def attacked(network: nn.Module, steps: Steps[Attempt], *shape: int) -> tuple[Attempt, int]:
    """What an attack returns, and how many points it asked for."""
    channels, height, width = shape or (3, 12, 12)
    body = Small(network, (channels, height, width))
    return run(body, steps), body.points


def at_least(network: nn.Module, aim: Aim, least: float) -> Rounding:
    """A rounding that leaves pictures as they are, and refuses those with a smaller lead."""
    return lambda pixels: pixels if lead(network, aim, pixels) > least else None


def sixteenths(pixels: Tensor) -> Tensor:
    """A coarse rounding, that undoes many attacks."""
    return (pixels * 16).round() / 16


@cache
def trained() -> tuple[nn.Module, Tensor, Tensor]:
    """A network that tells four soft patterns apart, 32 pictures that it knows, their labels."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(4, 3, 3, 3, generator=generator, dtype=torch.float64)
    patterns = F.interpolate(coarse, (10, 10), mode="bilinear", align_corners=False)
    labels = torch.arange(160) % 4
    noise = torch.randn(160, 3, 10, 10, generator=generator, dtype=torch.float64)
    pictures = (0.25 + 0.5 * patterns[labels] + 0.15 * noise).clamp(0, 1)
    found = network(0, side=10, classes=4).requires_grad_(True)
    optimizer = torch.optim.Adam(found.parameters(), 0.005)
    for _ in range(60):
        optimizer.zero_grad()
        F.cross_entropy(found(pictures), labels).backward()
        optimizer.step()
    known = found(pictures).argmax(1) == labels
    assert known.float().mean() > 0.9, "it learned nothing"
    found = found.requires_grad_(False)
    return found, pictures[known][:32], labels[known][:32]


def fooled(network: nn.Module, pictures: Tensor, labels: Tensor, attack: Any, p: Any) -> int:
    """How many pictures an attack succeeds on, as the network itself sees it."""
    count = 0
    for n, (x, label) in enumerate(zip(pictures, labels, strict=True)):
        attempt, _ = attacked(network, attack(Task(x, Aim(int(label)), n), p), *x.shape)
        is_fooled = predicted(network, attempt.pixels) != int(label)
        assert attempt.success == is_fooled
        count += is_fooled
    return count
