"""Small chains of layers, whose poolings lie in every way."""

import torch
from torch import nn


def chains() -> dict[str, nn.Sequential]:
    """By name; for pictures [3, 13, 13], with random weights and ten scores."""

    def chain(*layers: nn.Module, features: int) -> nn.Sequential:
        head = (nn.Flatten(), nn.Linear(features, 40), nn.ReLU(), nn.Linear(40, 10))
        return nn.Sequential(nn.Conv2d(3, 5, 3, padding=1), nn.ReLU(), *layers, *head)

    conv = nn.Conv2d(5, 4, 3)
    return {
        "plain": chain(nn.MaxPool2d(2), conv, nn.ReLU(), features=64),
        "overlapping": chain(nn.MaxPool2d(3, 2), conv, nn.ReLU(), features=64),
        "every pixel": chain(nn.MaxPool2d(3, 1), conv, nn.ReLU(), nn.MaxPool2d(3, 2), features=64),
        "ceil": chain(nn.MaxPool2d(3, 2, ceil_mode=True), conv, nn.ReLU(), features=64),
        "padded": chain(nn.MaxPool2d(3, 2, padding=1), conv, nn.ReLU(), features=100),
        "padded, ceil": chain(
            nn.MaxPool2d(4, 3, padding=2, ceil_mode=True), conv, nn.ReLU(), features=36
        ),
        "dilated": chain(nn.MaxPool2d(2, 2, dilation=3), conv, nn.ReLU(), features=36),
        "strided": chain(
            nn.Conv2d(5, 6, 4, stride=3, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(2, 1),
            features=96,
        ),
        "grouped, normalised": chain(
            nn.Conv2d(5, 10, 3, groups=5, dilation=2),
            nn.BatchNorm2d(10),
            nn.ReLU(),
            nn.MaxPool2d(3, 2),
            nn.AvgPool2d(2, 1),
            features=90,
        ),
    }


def chain(name: str, seed: int) -> nn.Sequential:
    """One of them, in double precision and ready to evaluate."""
    torch.manual_seed(seed)
    made = chains()[name].double().eval().requires_grad_(False)
    for layer in made:
        if isinstance(layer, nn.Conv2d | nn.Linear) and layer.bias is not None:
            # As they begin, hardly anything that is positive comes down.
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.uniform_(layer.bias, -0.2, 0.5)
        if isinstance(layer, nn.BatchNorm2d):
            # Some factors are below 0.
            nn.init.normal_(layer.weight)
            nn.init.uniform_(layer.get_buffer("running_var"), 0.5, 2)
            nn.init.normal_(layer.get_buffer("running_mean"))
    return made
