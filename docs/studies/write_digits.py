"""Writes scikit-learn's handwritten digits as labelled pictures, 8 x 8 enlarged to 128 x 128.

uv run python docs/studies/write_digits.py FOLDER

FOLDER gets DIGIT/NUMBER.png, 1,797 in all.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sklearn import datasets  # pyright: ignore[reportMissingTypeStubs]

SIDE = 128


def main(folder: Path) -> None:
    digits: Any = datasets.load_digits()
    for number, (image, digit) in enumerate(zip(digits.images, digits.target, strict=True)):
        # Their values are 0 to 16.
        pixels = np.rint(255 / 16 * image).astype(np.uint8)
        file = folder / str(digit) / f"{number:04}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(file)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
