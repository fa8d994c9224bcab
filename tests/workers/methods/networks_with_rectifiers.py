"""Small networks that call rectifiers in every way there is.

Each has two forms of one computation: `forward` as it is found in the wild, and `plain`, where
every rectifier is a call of `r(x)` or `r(x, cap)`, a function that a test brings along.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Plain = Callable[..., Tensor]


class Rectified(nn.Module):
    """Convolutions and a head for pictures [3, 12, 12]."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv2d(3, 6, 3, padding=1)
        self.two = nn.Conv2d(6, 6, 3, padding=1)
        self.three = nn.Conv2d(6, 6, 3, padding=1)
        self.head = nn.Linear(6 * 4 * 4, 5)

    def scores(self, maps: Tensor) -> Tensor:
        return self.head(F.avg_pool2d(maps, 3).flatten(1))


class Functional(Rectified):
    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.one(x))
        x = torch.relu(self.two(x))
        return self.scores(self.three(x).relu())

    def plain(self, x: Tensor, r: Plain) -> Tensor:
        return self.scores(r(self.three(r(self.two(r(self.one(x)))))))


class InPlace(Functional):
    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.one(x), inplace=True)
        x = torch.relu_(self.two(x))
        return self.scores(self.three(x).relu_())


class IgnoredResult(Functional):
    def forward(self, x: Tensor) -> Tensor:
        x = self.one(x)
        F.relu_(x)
        x = self.two(x)
        x.relu_()
        x = self.three(x)
        nn.ReLU(inplace=True)(x)
        return self.scores(x)


class Modules(Functional):
    def __init__(self) -> None:
        super().__init__()
        self.reused, self.twice = nn.ReLU(inplace=True), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.reused(self.one(x))
        x = self.twice(self.twice(self.two(x)))
        return self.scores(self.reused(self.three(x)))


class Parallel(Modules):
    """One module in two branches, whose order back is not that of the way there."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.reused(self.one(x))
        left, right = self.two(x), self.three(x)
        right = self.reused(right)
        return self.scores(self.reused(left) - 0.5 * right)

    def plain(self, x: Tensor, r: Plain) -> Tensor:
        x = r(self.one(x))
        return self.scores(r(self.two(x)) - 0.5 * r(self.three(x)))


class Residual(Rectified):
    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.one(x), inplace=True)
        y = F.relu(self.two(x), inplace=True)
        y = self.three(y)
        y += x
        return self.scores(F.relu(y, inplace=True))

    def plain(self, x: Tensor, r: Plain) -> Tensor:
        x = r(self.one(x))
        return self.scores(r(self.three(r(self.two(x))) + x))


class PreActivation(Rectified):
    """The skip takes what the rectifier takes: a hook on that tensor would see both gradients."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.one(x)
        x = x + self.two(F.relu(x))
        x = x + self.three(F.relu(x))
        return self.scores(x)

    def plain(self, x: Tensor, r: Plain) -> Tensor:
        x = self.one(x)
        x = x + self.two(r(x))
        return self.scores(x + self.three(r(x)))


class PreActivationInPlace(Rectified):
    """The skip was taken before the rectifier wrote to the same memory: it is rectified too."""

    def forward(self, x: Tensor) -> Tensor:
        skip = x = self.one(x)
        x = self.two(F.relu(x, inplace=True))
        return self.scores(self.three(F.relu_(x)) + skip)

    def plain(self, x: Tensor, r: Plain) -> Tensor:
        skip = r(self.one(x))
        return self.scores(self.three(r(self.two(skip))) + skip)


class Aliased(Rectified):
    """Views of what is rectified in place, and a view that is."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.one(x)
        skip = x.view(x.shape[0], 6, 144)
        F.relu_(x)
        y = self.two(x)
        F.relu(y[:, :4], inplace=True)
        y = y + skip.view_as(x)
        return self.scores(y)

    def plain(self, x: Tensor, r: Plain) -> Tensor:
        x = r(self.one(x))
        y = self.two(x)
        return self.scores(torch.cat([r(y[:, :4]), y[:, 4:]], dim=1) + x)


class Dense(Rectified):
    """Every layer sees all before it, and each rectifies it for itself."""

    def __init__(self) -> None:
        super().__init__()
        self.two = nn.Conv2d(12, 6, 3, padding=1)
        self.again = nn.Conv2d(6, 6, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.one(x)
        x = torch.cat([x, self.again(F.relu(x))], 1)
        return self.scores(self.three(F.relu(self.two(F.relu(x)), inplace=True)))

    def plain(self, x: Tensor, r: Plain) -> Tensor:
        x = self.one(x)
        x = torch.cat([x, self.again(r(x))], 1)
        return self.scores(self.three(r(self.two(r(x)))))


class Capped(Rectified):
    """Rectifiers that let nothing through above a cap."""

    def __init__(self) -> None:
        super().__init__()
        self.hard = nn.Hardtanh(0, 0.3, inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.ReLU6(inplace=True)(10 * self.one(x)) / 10
        x = self.hard(self.two(x))
        return self.scores(self.three(x).clamp(0, 0.2))

    def plain(self, x: Tensor, r: Plain) -> Tensor:
        x = r(10 * self.one(x), 6) / 10
        return self.scores(r(self.three(r(self.two(x), 0.3)), 0.2))


class CappedFunctions(Capped):
    def forward(self, x: Tensor) -> Tensor:
        x = F.relu6(10 * self.one(x)) / 10
        x = F.hardtanh(self.two(x), 0.0, 0.3)
        return self.scores(torch.clip(self.three(x), min=0, max=0.2))


class Cousins(Functional):
    """The same by other names."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.one(x).clamp_(min=0)
        x = torch.clamp_min(self.two(x), 0)
        return self.scores(F.threshold(self.three(x), 0.0, 0.0))


class Maxima(Functional):
    def forward(self, x: Tensor) -> Tensor:
        x = self.one(x)
        x = self.two(torch.maximum(x, torch.zeros_like(x)))
        x = self.three(torch.max(torch.zeros((), dtype=x.dtype), x))
        return self.scores(torch.fmax(x, torch.zeros((), dtype=x.dtype)))


class Operators(Functional):
    """Called as operators, as exported programs do."""

    def forward(self, x: Tensor) -> Tensor:
        x = torch.ops.aten.relu(self.one(x))
        x = torch.ops.aten.relu_(self.two(x))
        return self.scores(torch.ops.aten.clamp_min(self.three(x), 0))


class Gated(Rectified):
    """A squeeze and excitation block: its gate keeps its gradient."""

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.one(x))
        gate = torch.sigmoid(self.two(F.relu(self.three(x.mean((2, 3), keepdim=True)))))
        return self.scores(x * gate)

    def plain(self, x: Tensor, r: Plain) -> Tensor:
        x = r(self.one(x))
        return self.scores(x * torch.sigmoid(self.two(r(self.three(x.mean((2, 3), keepdim=True))))))


class Normalised(Rectified):
    """Batch norms with factors below 0, and normalisations by the picture's own statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(6)
        nn.init.normal_(self.norm.weight)
        self.group = nn.GroupNorm(2, 6)
        self.local = nn.LocalResponseNorm(3, alpha=1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.one(x)), inplace=True)
        x = F.relu(self.group(self.two(self.local(x))), inplace=True)
        return self.scores(x)

    def plain(self, x: Tensor, r: Plain) -> Tensor:
        x = self.local(r(self.norm(self.one(x))))
        return self.scores(r(self.group(self.two(x))))


NETWORKS: tuple[type[Any], ...] = (
    Functional,
    InPlace,
    IgnoredResult,
    Modules,
    Parallel,
    Residual,
    PreActivation,
    PreActivationInPlace,
    Aliased,
    Dense,
    Capped,
    CappedFunctions,
    Cousins,
    Maxima,
    Operators,
    Gated,
    Normalised,
)
