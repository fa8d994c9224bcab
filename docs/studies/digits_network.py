"""Trains a residual network on scikit-learn's digits, for studies of one that is no plain chain.

uv run python docs/studies/digits_network.py DIR

DIR gets digits.safetensors, networks.yaml that serves it as `digits`, and the pictures that it was
not trained on, digits/CLASS/0000.png. Two minutes of a CPU's core.
"""

# scikit-learn and torchvision have no types.
# pyright: reportMissingTypeStubs=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torchvision import models

EPOCHS, ROWS, SIDE = 12, 32, 32
CLASSES = [f"digit {number}" for number in range(10)]
SERVED = """\
networks:
  - name: digits
    builder: torchvision:resnet18
    arguments: {{num_classes: 10}}
    weights: digits.safetensors
    labels: [{labels}]
    input: {{size: {side}, resize: {side}, mean: [0, 0, 0], std: [1, 1, 1]}}
"""


def pictures() -> tuple[Tensor, Tensor]:
    """All digits [n, 3, 32, 32] in [0, 1], as 8-bit pictures have them, and their classes."""
    digits: Any = load_digits()
    grey = np.rint(digits.images * 255 / 16).astype(np.uint8)
    large = grey.repeat(SIDE // 8, 1).repeat(SIDE // 8, 2)
    pixels = torch.tensor(large)[:, None].repeat(1, 3, 1, 1) / 255
    return pixels, torch.tensor(digits.target)


def trained(pixels: Tensor, classes: Tensor) -> nn.Module:
    """A ResNet-18 after a one-cycle schedule of SGD, with shifts of up to 3 pixels."""
    torch.manual_seed(0)
    body = models.resnet18(num_classes=10)
    steps = EPOCHS * (len(pixels) // ROWS)
    optimizer = torch.optim.SGD(body.parameters(), momentum=0.9, nesterov=True, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.05, total_steps=steps)
    for epoch in range(EPOCHS):
        for rows in torch.randperm(len(pixels))[: steps // EPOCHS * ROWS].split(ROWS):
            shift = tuple(torch.randint(-3, 4, (2,)).tolist())
            scores = body(pixels[rows].roll(shift, (2, 3)))
            loss = nn.functional.cross_entropy(scores, classes[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        print(f"epoch {epoch + 1} of {EPOCHS}", file=sys.stderr)
    return body.eval()


def main() -> None:
    """Trains on three of four digits, and writes the fourth ones as pictures."""
    out = Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    pixels, classes = pictures()
    held_out = torch.arange(len(pixels)) % 4 == 3
    body = trained(pixels[~held_out], classes[~held_out])
    save_file(body.state_dict(), out / "digits.safetensors")
    labels = ", ".join(CLASSES)
    (out / "networks.yaml").write_text(SERVED.format(labels=labels, side=SIDE))
    rest = zip(pixels[held_out], classes[held_out], strict=True)
    for number, (picture, index) in enumerate(rest):
        file = out / "digits" / CLASSES[index] / f"{number:04}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        array = (255 * picture.permute(1, 2, 0)).round().byte().numpy()
        Image.fromarray(array).save(file)


if __name__ == "__main__":
    main()
