"""Write a full grid of drawn variations: `python -m convlens.workers.shapes.variations OUT`.

A picture for every combination of class, position, scale, rotation, colour and style, and
factors.csv, which says what each shows. A style is a seed that no network was trained on: its
background, its marks and the textures.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, product
from pathlib import Path

import numpy as np
from PIL import Image

from convlens.workers.shapes import tones
from convlens.workers.shapes.dataset import HELD_OUT
from convlens.workers.shapes.draw import CLASSES, SIZE, Picture, draw
from convlens.workers.shapes.scene import plan

TABLE = "factors.csv"
FACTORS = ("class", "position", "scale", "rotation", "colour", "style")
# sRGB, 0..255: far enough from each other, and from the backgrounds of enough seeds.
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (222, 44, 44),
    "green": (38, 166, 70),
    "blue": (52, 84, 224),
    "yellow": (240, 206, 40),
    "violet": (158, 60, 196),
    "orange": (240, 132, 30),
}
# The classes that no quarter turn brings onto themselves come first.
SHAPES = ("arrow", "crescent", "heart", "star")
# The centres and the scales between which the values lie; every object is whole.
CENTRES, SCALES = (0.34, 0.66), (0.17, 0.30)
# What the command line counts: the default, the most, and what it is.
COUNTS = {
    "positions": (2, 9, "side of the square lattice of centres"),
    "scales": (2, 32, "scales"),
    "rotations": (6, 360, "rotations, all round"),
    "colours": (3, len(COLOURS), f"colours, of {', '.join(COLOURS)}"),
    "styles": (2, 16, "backgrounds and textures"),
    "size": (SIZE, 1024, "side of a picture in pixels"),
}


@dataclass(frozen=True)
class Values:
    """What the pictures of a grid are drawn with, factor by factor, in the order of FACTORS."""

    classes: Sequence[str]
    centres: Sequence[float]  # of a square lattice, fractions of the side
    scales: Sequence[float]
    rotations: Sequence[float]  # degrees clockwise
    colours: Sequence[str]
    styles: Sequence[int]  # seeds

    def combinations(self) -> Iterator[tuple[str, tuple[float, float], float, float, str, int]]:
        """All of them, the last factor changing first."""
        places = [(x, y) for y in self.centres for x in self.centres]
        return product(self.classes, places, self.scales, self.rotations, self.colours, self.styles)


def values(
    classes: Sequence[str] = SHAPES,
    positions: int = 2,
    scales: int = 2,
    rotations: int = 6,
    colours: int = 3,
    styles: int = 2,
) -> Values:
    """Evenly spread values: `positions` is the side of the lattice, the others are how many."""
    chosen = tuple(COLOURS)[:colours]
    return Values(
        classes,
        _spread(CENTRES, positions),
        _spread(SCALES, scales),
        [360.0 * number / rotations for number in range(rotations)],
        chosen,
        list(islice(fitting(chosen), styles)),
    )


def fitting(colours: Sequence[str]) -> Iterator[int]:
    """The held-out seeds on whose backgrounds every one of the colours stands out."""
    return (seed for seed in HELD_OUT if all(_stands_out(seed, name) for name in colours))


def write(out: Path, given: Values, *, size: int = SIZE) -> int:
    """Writes the pictures, `size` pixels square, and their table; returns how many there are."""
    out.mkdir(parents=True, exist_ok=True)
    lines: list[list[str]] = []
    for number, (name, place, scale, rotation, colour, style) in enumerate(given.combinations()):
        picture = _drawn(name, place, scale, rotation, colour, style, size)
        file = f"{number:05}.png"
        Image.fromarray(picture.image).save(out / file)
        words = [name, f"{place[0]:.2f}/{place[1]:.2f}", f"{scale:.3g}", f"{rotation:g}"]
        lines.append([file, *words, colour, f"seed {style - HELD_OUT.start}"])
    with (out / TABLE).open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([["file", *FACTORS], *lines])
    return len(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description="Draw shapes in every combination of class, position, scale, rotation, colour "
        f"and style, with a table of them in {TABLE}."
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="directory to write into")
    parser.add_argument(
        "--classes",
        nargs="+",
        choices=CLASSES,
        default=list(SHAPES),
        metavar="CLASS",
        help=f"of {', '.join(CLASSES)} (default: {' '.join(SHAPES)})",
    )
    for name, (count, most, words) in COUNTS.items():
        told = f"{words} (1 to {most}, default {count})"
        parser.add_argument(f"--{name}", type=_up_to(most), default=count, metavar="N", help=told)
    given = vars(parser.parse_args(arguments))
    out, size = given.pop("out"), given.pop("size")
    given["classes"] = list(dict.fromkeys(given["classes"]))
    print(f"{out}: {write(out, values(**given), size=size)} pictures and {TABLE}")


def _up_to(most: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not text.isdecimal() or not 1 <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 to {most}")
        return int(text)

    return number


def _drawn(
    name: str,
    place: tuple[float, float],
    scale: float,
    rotation: float,
    colour: str,
    style: int,
    size: int,
) -> Picture:
    return draw(
        style,
        size=size,
        label=CLASSES.index(name),
        position=place,
        scale=scale,
        rotation=rotation,
        colour=COLOURS[colour],
    )


def _spread(ends: tuple[float, float], count: int) -> list[float]:
    return np.linspace(*ends, count).tolist() if count > 1 else [sum(ends) / 2]


def _stands_out(seed: int, colour: str) -> bool:
    scene = plan(seed, colour=COLOURS[colour])
    behind = np.array([*scene.background.tones, *(mark.tone for mark in scene.marks)])
    ahead = np.array(scene.surface.tones)
    return bool(tones.distance(ahead[:, None], behind).min() >= tones.APART)


if __name__ == "__main__":
    main()
