"""The folder of drawn shapes that users study networks with."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convlens.workers.shapes.dataset import HELD_OUT
from convlens.workers.shapes.draw import draw
from convlens.workers.shapes.folder import main


def test_each_picture_lies_in_the_folder_of_its_class(tmp_path: Path) -> None:
    main([str(tmp_path / "shapes"), "--count", "6", "--first", "3"])
    with (tmp_path / "shapes" / "factors.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6
    for number, row in enumerate(rows, 3):
        expected = draw(HELD_OUT[number])
        pixels = np.asarray(Image.open(tmp_path / "shapes" / row["file"]))
        np.testing.assert_array_equal(pixels, expected.image)
        assert row["file"] == f"{expected.scene.name}/{number:04}.png"
        assert row["texture"] == expected.scene.surface.kind
        assert float(row["size"]) == pytest.approx(2 * expected.scene.scale, abs=1e-3)


def test_objects_may_be_of_other_radii(tmp_path: Path) -> None:
    main([str(tmp_path / "shapes"), "--count", "40", "--radius", "0.05", "0.3"])
    with (tmp_path / "shapes" / "factors.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    radii = np.array([float(row["size"]) / 2 for row in rows])
    assert 0.05 <= radii.min() < 0.08 and 0.25 < radii.max() <= 0.3
    # Halfway between them lies their geometric mean.
    assert 0.08 < np.median(radii) < 0.18
    expected = draw(HELD_OUT[0], scale=0.05 * 6 ** np.random.default_rng(HELD_OUT[0]).random())
    pixels = np.asarray(Image.open(tmp_path / "shapes" / rows[0]["file"]))
    np.testing.assert_array_equal(pixels, expected.image)


@pytest.mark.parametrize("radii", [["0.3", "0.05"], ["0", "0.3"], ["0.1", "0.6"], ["nan", "0.3"]])
def test_radii_that_cannot_be_drawn_are_told(tmp_path: Path, capsys, radii: list[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([str(tmp_path / "shapes"), "--radius", *radii])
    assert end.value.code == 2 and "from 0.01 to 0.5" in capsys.readouterr().err


@pytest.mark.parametrize("given", [["--count", "0"], ["--count", "2001"], ["--first", "-1"]])
def test_what_is_not_there_is_told(tmp_path: Path, capsys, given: list[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([str(tmp_path / "shapes"), *given])
    assert end.value.code == 2 and "2000 pictures" in capsys.readouterr().err
