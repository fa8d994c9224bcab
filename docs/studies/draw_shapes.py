"""Draws labelled shapes of all sizes, smaller ones too than any network was trained on.

uv run python docs/studies/draw_shapes.py FOLDER [COUNT]

FOLDER gets CLASS/NUMBER.png, and factors.csv with what is known of each picture: the texture of
the object and of the background, the object's radius as a share of the side, and how many marks lie
behind it.
"""

import csv
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from convlens.workers.shapes.dataset import HELD_OUT
from convlens.workers.shapes.draw import CLASSES, draw

# Of the enclosing circle, as shares of the side; the networks were trained on 0.15 to 0.3.
RADII = (0.05, 0.3)
COLUMNS = ("file", "texture", "background", "radius", "marks")


def main(folder: Path, count: int) -> None:
    rows: list[tuple[object, ...]] = []
    for number, seed in enumerate(HELD_OUT[:count]):
        share = np.random.default_rng(seed).random()
        radius = RADII[0] * (RADII[1] / RADII[0]) ** share
        made = draw(seed, scale=radius)
        file = folder / CLASSES[made.label] / f"{number:04}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(made.image).save(file)
        scene, name = made.scene, file.relative_to(folder).as_posix()
        marks = len(scene.marks)
        rows.append((name, scene.surface.kind, scene.background.kind, round(radius, 4), marks))
    with (folder / "factors.csv").open("w", encoding="utf-8", newline="") as lines:
        csv.writer(lines).writerows([COLUMNS, *rows])


if __name__ == "__main__":
    main(Path(sys.argv[1]), int((sys.argv[2:] or ["1000"])[0]))
