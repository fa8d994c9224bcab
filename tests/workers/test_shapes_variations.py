"""The grid of drawn variations: every combination once, and a table that says the truth."""

import csv
import subprocess
import sys
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convlens.workers.shapes import tones
from convlens.workers.shapes.dataset import HELD_OUT
from convlens.workers.shapes.draw import CLASSES, draw
from convlens.workers.shapes.scene import plan
from convlens.workers.shapes.variations import COLOURS, fitting, main, values, write


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "factors.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_combination_is_drawn_once(tmp_path: Path) -> None:
    assert write(tmp_path, values(["heart", "arrow"], 2, 2, 3, 2, 1), size=16) == 96
    rows = table(tmp_path)
    factors = list(rows[0])[1:]
    there = {tuple(row[name] for name in factors) for row in rows}
    assert there == set(product(*({row[name] for row in rows} for name in factors)))
    assert len(there) == len(rows) == len(list(tmp_path.glob("*.png")))


def test_the_table_says_what_a_picture_shows(tmp_path: Path) -> None:
    write(tmp_path, values(["star"], 2, 2, 3, 2, 1), size=64)
    row = table(tmp_path)[-1]
    x, y = map(float, row["position"].split("/"))
    drawn = draw(
        int(row["style"].removeprefix("seed ")) + HELD_OUT.start,
        size=64,
        label=CLASSES.index(row["class"]),
        position=(x, y),
        scale=float(row["scale"]),
        rotation=float(row["rotation"]),
        colour=COLOURS[row["colour"]],
    )
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / row["file"])), drawn.image)
    assert (
        drawn.mask.any() and not np.concatenate([drawn.mask[[0, -1]], drawn.mask.T[[0, -1]]]).any()
    )


def test_every_colour_stands_out_from_every_style() -> None:
    names = list(COLOURS)[:3]
    seeds = values(colours=3, styles=3).styles
    assert len(seeds) == 3
    for seed, name in product(seeds, names):
        scene = plan(seed, colour=COLOURS[name])
        for tone in scene.surface.tones:
            for behind in scene.background.tones:
                assert tones.distance(np.array(tone), np.array(behind)) >= tones.APART
    assert next(fitting(names)) == seeds[0]


def test_the_command_draws_what_it_is_told(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "convlens.workers.shapes.variations", tmp_path / "new" / "out"]
    counts = ["--positions", "1", "--scales", "1", "--rotations", "2", "--colours", "1"]
    given = [*counts, "--styles", "1", "--size", "16", "--classes", "heart", "ring"]
    done = subprocess.run([*command, *given], capture_output=True, text=True, check=True)
    assert "out: 4 pictures and factors.csv" in done.stdout
    assert [row["class"] for row in table(tmp_path / "new" / "out")] == ["heart"] * 2 + ["ring"] * 2


def test_wrong_numbers_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([str(tmp_path / "out"), "--scales", "0"])
    assert "'0' is no whole number from 1 to 32" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
