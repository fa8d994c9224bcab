"""The networks `shapes`, `shapes-shortcut` and `shapes-robust`: plain layers, named as in VGG.

They are convolutions, ReLU, max-pools and fully connected layers. `features` ends with 64 maps of
4 x 4; `classifier` goes through two codes of 128, like VGG's fc6 and fc7, to the logits.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file  # pyright: ignore[reportUnknownVariableType]
from torch import Tensor, nn

from convlens.workers.shapes.outlines import CLASSES

LABELS: tuple[str, ...] = CLASSES
INPUT_SIZE = 128
MEAN = (0.5, 0.5, 0.5)
STD = (0.25, 0.25, 0.25)
WEIGHTS = Path(__file__).with_name("shapes.safetensors")
SHORTCUT = Path(__file__).with_name("shapes-shortcut.safetensors")
ROBUST = Path(__file__).with_name("shapes-robust.safetensors")
CHECKPOINTS = Path(__file__).with_name("checkpoints")

# Maps of the convolutions; one list per block, a max-pool after each.
BLOCKS = ((24,), (32,), (48, 48), (64, 64), (64,))
CODE = 128


class Shapes(nn.Module):
    """Logits [N, len(LABELS)] of normalised pictures [N, 3, 128, 128]."""

    def __init__(self, *, batchnorm: bool = False) -> None:
        super().__init__()
        self.features = _features(batchnorm)
        side = INPUT_SIZE // 2 ** len(BLOCKS)
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Linear(BLOCKS[-1][-1] * side * side, CODE),
            nn.ReLU(inplace=True),
            nn.Linear(CODE, CODE),
            nn.ReLU(inplace=True),
            nn.Linear(CODE, len(LABELS)),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Features, then classifier."""
        logits: Tensor = self.classifier(self.features(x))
        return logits


def build() -> Shapes:
    """The served architecture, with random weights."""
    return Shapes()


def load(path: Path = WEIGHTS) -> Shapes:
    """The network with the weights of a safetensors file (fp16 ones become fp32), to evaluate."""
    network = build()
    network.load_state_dict(load_file(path))
    return network.eval()


def normalised(images: Tensor) -> Tensor:
    """Pictures [N, H, W, 3] in 0..255 as the network's input [N, 3, H, W]."""
    return standardised(pixels_of(images))


def pixels_of(images: Tensor) -> Tensor:
    """Pictures [N, H, W, 3] in 0..255 as pixels [N, 3, H, W] in 0..1."""
    return (images.float() / 255.0).permute(0, 3, 1, 2).contiguous()


def standardised(pixels: Tensor) -> Tensor:
    """Pixels [N, 3, H, W] in 0..1 as the network's input."""
    mean, std = (torch.tensor(each)[:, None, None] for each in (MEAN, STD))
    return (pixels - mean) / std


@torch.no_grad()
def fold_batchnorm(network: Shapes) -> Shapes:
    """The same function without batch norm: each one's evaluation-mode scale and shift moved
    into the convolution before it.

    w' = w * gamma / sqrt(var + eps);  b' = beta + (b - mean) * gamma / sqrt(var + eps)
    """
    folded = Shapes().to(next(network.parameters()).dtype)
    folded.classifier.load_state_dict(network.classifier.state_dict())
    layers = list(network.features)
    kept = [layer for layer in layers if not isinstance(layer, nn.BatchNorm2d)]
    for source, target in zip(kept, folded.features, strict=True):
        if isinstance(source, nn.Conv2d) and isinstance(target, nn.Conv2d):
            weight, bias = source.weight, _bias(source)
            after = layers[layers.index(source) + 1]
            if isinstance(after, nn.BatchNorm2d):
                weight, bias = _folded(weight, bias, after)
            target.weight.copy_(weight)
            _bias(target).copy_(bias)
    return folded.train(network.training)


def _features(batchnorm: bool) -> nn.Sequential:
    layers: list[nn.Module] = []
    before = 3
    for block in BLOCKS:
        for maps in block:
            layers.append(nn.Conv2d(before, maps, kernel_size=3, padding=1))
            if batchnorm:
                layers.append(nn.BatchNorm2d(maps))
            layers.append(nn.ReLU(inplace=True))
            before = maps
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers)


def _bias(conv: nn.Conv2d) -> Tensor:
    if conv.bias is None:
        raise TypeError("every convolution of this network has a bias")
    return conv.bias


def _folded(weight: Tensor, bias: Tensor, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    if norm.running_mean is None or norm.running_var is None:
        raise TypeError("only a batch norm with running statistics can be folded away")
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    return weight * scale[:, None, None, None], norm.bias + (bias - norm.running_mean) * scale
