"""Write a labelled folder of drawn shapes: `python -m convlens.workers.shapes.folder DIR`.

Each picture lies in the folder of its class, DIR/star/0007.png, and factors.csv says of each how
its object was drawn. No bundled network was trained on any of them.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from convlens.workers.shapes.dataset import HELD_OUT
from convlens.workers.shapes.draw import draw

COUNT = 200
HEADS = ("file", "label", "texture", "size", "x", "y", "rotation", "marks", "grain")


def write_folder(folder: Path, count: int, first: int = 0) -> None:
    """So many pictures of held-out seeds, from the one of that number on.

    factors.csv has the texture of the object, its `size` (the diameter as a fraction of the side),
    its centre, also in fractions, its rotation in degrees, how many marks lie behind it, and the
    standard deviation of the grain.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "factors.csv").open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(HEADS)
        for number in range(first, first + count):
            picture = draw(HELD_OUT[number])
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


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Write a labelled folder of drawn shapes.")
    parser.add_argument("folder", type=Path, metavar="DIR", help="the folder to write into")
    parser.add_argument("--count", type=int, default=COUNT, help="how many (default: %(default)s)")
    parser.add_argument("--first", type=int, default=0, help="the number of the first one")
    given = parser.parse_args(arguments)
    if given.first < 0 or not 1 <= given.count <= len(HELD_OUT) - given.first:
        parser.error(f"--count is {given.count}; there are {len(HELD_OUT)} pictures, from 0")
    write_folder(given.folder, given.count, given.first)


if __name__ == "__main__":
    main()
