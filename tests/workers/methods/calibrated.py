"""Networks of torchvision whose answers depend on the picture, and pictures for them.

With the weights that they begin with, a covered window changes a score by a millionth, so that a
test that compares scores could not fail.
"""

from functools import cache

import torch
from torch import Tensor, nn

from tests.workers.methods.small import Small
from tests.workers.networks import build

# Nearly all weights of these are in their heads, which are not what is tested.
HEADS = {"alexnet": 256 * 6 * 6, "vgg11": 512 * 7 * 7}


@cache
def calibrated(name: str, size: int) -> Small:
    """A network for pictures of `size` pixels, in double precision, with ten classes."""
    module = build(name, weights=True, num_classes=10)
    if name in HEADS:
        layers = [nn.Linear(HEADS[name], 64), nn.ReLU(inplace=True), nn.Linear(64, 10)]
        module.classifier = nn.Sequential(*layers)
    generator = torch.Generator().manual_seed(1)
    for layer in module.modules():
        _draw(layer, generator)
    module.double().train()
    with torch.no_grad():
        module(torch.stack([picture(size, seed) for seed in range(4)]))
    return Small(module, (3, size, size))


def _draw(layer: nn.Module, generator: torch.Generator) -> None:
    """Weights under which signals keep their size, biases, and batch norms that do something."""
    if isinstance(layer, nn.Conv2d | nn.Linear):
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
    if isinstance(layer, nn.BatchNorm2d):
        # The statistics of the pictures that it sees next.
        layer.momentum = None
        nn.init.normal_(layer.weight, mean=1, std=0.5, generator=generator)
    if isinstance(layer, nn.Conv2d | nn.Linear | nn.BatchNorm2d) and layer.bias is not None:
        nn.init.normal_(layer.bias, std=0.2, generator=generator)


def picture(size: int, seed: int) -> Tensor:
    """Soft shapes with 2 % noise, [3, size, size] in [0, 1]; no two pixels are alike."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 6, 6, generator=generator, dtype=torch.float64)
    shapes = nn.functional.interpolate(coarse, (size, size), mode="bicubic", align_corners=False)
    noise = torch.randn(3, size, size, generator=generator, dtype=torch.float64)
    return (shapes[0] + 0.02 * noise).clamp(0, 1)
