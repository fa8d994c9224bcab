"""Write a labelled folder of drawn shapes: `python -m convlens.workers.shapes.folder DIR`.

Each picture lies in the folder of its class, DIR/star/0007.png, and factors.csv says of each how
its object was drawn. No bundled network was trained on any of them.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from convlens.workers.shapes.dataset import HELD_OUT
from convlens.workers.shapes.draw import draw

COUNT = 200
HEADS = ("file", "label", "texture", "size", "x", "y", "rotation", "marks", "grain")
# An outline of a smaller radius has hardly a pixel; one of a larger radius does not fit.
SMALLEST, LARGEST = 0.01, 0.5


def write_folder(
    folder: Path, count: int, first: int = 0, radii: tuple[float, float] | None = None
) -> None:
    """So many pictures of held-out seeds, from the one of that number on.

    `radii` are the least and the largest radius of the object, as fractions of the side; each
    factor between them is equally likely. Without it they are the seed's own, 0.15 to 0.3.

    factors.csv has the texture of the object, its `size` (the diameter as a fraction of the side),
    its centre, also in fractions, its rotation in degrees, how many marks lie behind it, and the
    standard deviation of the grain.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "factors.csv").open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(HEADS)
        for number in range(first, first + count):
            seed = HELD_OUT[number]
            picture = draw(seed, scale=None if radii is None else _radius(seed, radii))
            scene = picture.scene
            path = folder / scene.name / f"{number:04}.png"
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(picture.image).save(path)
            x, y = scene.position
            rows.writerow(
                [
                    f"{scene.name}/{path.name}",
                    scene.name,
                    scene.surface.kind,
                    f"{2 * scene.scale:.3f}",
                    f"{x:.3f}",
                    f"{y:.3f}",
                    f"{scene.rotation:.1f}",
                    len(scene.marks),
                    f"{scene.grain:.4f}",
                ]
            )


def _radius(seed: int, radii: tuple[float, float]) -> float:
    least, largest = radii
    share = np.random.default_rng(seed).random()
    return float(least * (largest / least) ** share)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Write a labelled folder of drawn shapes.")
    parser.add_argument("folder", type=Path, metavar="DIR", help="the folder to write into")
    parser.add_argument("--count", type=int, default=COUNT, help="how many (default: %(default)s)")
    parser.add_argument("--first", type=int, default=0, help="the number of the first one")
    parser.add_argument(
        "--radius",
        type=float,
        nargs=2,
        metavar=("LEAST", "LARGEST"),
        help="radii of the objects, as fractions of the side, such as 0.05 0.3 for smaller ones "
        "than any network was trained on (default: 0.15 to 0.3, as in the training)",
    )
    given = parser.parse_args(arguments)
    if given.first < 0 or not 1 <= given.count <= len(HELD_OUT) - given.first:
        parser.error(f"--count is {given.count}; there are {len(HELD_OUT)} pictures, from 0")
    radii: tuple[float, float] | None = given.radius and tuple(given.radius)
    if radii and not SMALLEST <= radii[0] <= radii[1] <= LARGEST:
        parser.error(
            f"--radius is {radii[0]:g} {radii[1]:g}; the least comes first, and both are from "
            f"{SMALLEST:g} to {LARGEST:g}"
        )
    write_folder(given.folder, given.count, given.first, radii)


if __name__ == "__main__":
    main()
