"""Write the sample pictures: `python -m convlens.workers.shapes.samples --out DIR`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from PIL import Image

from convlens.workers.shapes.draw import Picture, render
from convlens.workers.shapes.scene import plan

# Picked by eye: every class, every texture, light and dark, with and without distractors.
SAMPLES: dict[str, int] = {
    "circle-1": 743,
    "ring-1": 815,
    "triangle-1": 712,
    "square-1": 703,
    "pentagon-1": 745,
    "star-1": 747,
    "star-2": 797,
    "cross-1": 772,
    "crescent-1": 761,
    "heart-1": 723,
    "heart-2": 717,
    "arrow-1": 704,
}
SIDE = 256


def sample(seed: int) -> Picture:
    """A sample: larger than the network's input, and without grain, which PNG cannot pack."""
    return render(replace(plan(seed), grain=0.0), SIDE)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Write the sample pictures of `shapes`.")
    parser.add_argument("--out", type=Path, required=True, help="directory to write into")
    out: Path = parser.parse_args(arguments).out
    out.mkdir(parents=True, exist_ok=True)
    for name, seed in SAMPLES.items():
        Image.fromarray(sample(seed).image).save(out / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main()
