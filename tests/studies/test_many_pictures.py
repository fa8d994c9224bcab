"""Many pictures through top patches and neighbours: the client's memory stays small."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convlens.client import Client
from convlens.client._picture_files import found
from tests.conftest import server_process

CLIENT = Path(__file__).with_name("many_pictures.py")
MOST_MEGABYTES = 1500


def draw(folder: Path, count: int) -> list[Path]:
    """So many pictures of 64 x 64, no two alike, in folders of 1000."""
    for number in range(count):
        noise = np.random.default_rng(number).integers(0, 256, (8, 8, 3), np.uint8)
        file = folder / f"{number // 1000:02}" / f"{number:05}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise).resize((64, 64)).save(file, compress_level=1)
    return found(folder)


@pytest.mark.parametrize("count", [60, pytest.param(20_000, marks=pytest.mark.slow)])
def test_the_client_stays_small(tmp_path: Path, count: int) -> None:
    paths = draw(tmp_path / "pictures", count)
    with server_process(OMP_NUM_THREADS="1") as (_, address):
        command = [sys.executable, str(CLIENT), address, str(tmp_path / "pictures"), str(tmp_path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert not done.returncode, done.stderr
        print(done.stdout)
        with Client(address) as client:
            assert_nearest(client, paths, tmp_path / "alike" / "neighbours.csv")
    took = json.loads(done.stdout)
    assert took["pictures"] == count
    # Below the line of names.
    assert len((tmp_path / "patches" / "patches.csv").read_text().splitlines()) == 1 + 2 * 9
    assert took["neighbours"]["megabytes"] < MOST_MEGABYTES
    # Nothing is said of how large it is: nobody who reads that could change it.
    assert not done.stderr


def assert_nearest(client: Client, paths: list[Path], file: Path) -> None:
    """The neighbours of the first query are those of an exact search."""
    streamed = client.extract_features_stream(paths, "cnn-code", l2_normalize=True)
    codes = np.stack([each[0] for each in streamed]).astype(np.float64)
    cosines = codes[1:] @ codes[0]
    with file.open() as lines:
        rows = [row for row in csv.DictReader(lines) if row["query"] == str(paths[0])]
    found_ones = [cosines[paths.index(Path(row["picture"])) - 1] for row in rows]
    np.testing.assert_allclose([float(row["similarity"]) for row in rows], found_ones, atol=1e-5)
    np.testing.assert_allclose(found_ones, -np.sort(-cosines)[:9], atol=1e-6)
