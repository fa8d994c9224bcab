"""`convlens attack` against a real server: what it writes is what classify says it is."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.conftest import RunningServer, running_server


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with running_server(engine="embedded") as running:
        yield running


def convlens(server: RunningServer, *arguments: object) -> str:
    command = [sys.executable, "-m", "convlens.client.cli", *map(str, arguments)]
    environment = {**os.environ, "CONVLENS_SERVER": server.address}
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_classify_says_of_the_picture_what_the_verdict_says(
    server: RunningServer, pictures: list[Path], tmp_path: Path
) -> None:
    asked = ["--method", "deepfool:steps=20", "--until-rounded", "--pixels", "--json"]
    answer = convlens(server, "attack", *pictures[:4], *asked, "--out", tmp_path / "fooled")
    found: list[Any] = [entry["verdict"] for entry in json.loads(answer)["pictures"]]
    assert [verdict["status"] for verdict in found] == ["succeeded"] * 4
    files = [tmp_path / "fooled" / verdict["files"]["png"] for verdict in found]
    lines = convlens(server, "classify", *files, "--as-is", "--json").splitlines()
    for verdict, line, path in zip(found, lines, files, strict=True):
        best = json.loads(line)["classes"][0]
        assert verdict["rounded_status"] == "succeeded"
        assert best["label"] == verdict["after_rounding"][0]["label"]
        assert best["index"] != verdict["original_class_index"]
        with Image.open(path) as made:
            pixels = np.load(path.with_suffix(".npy"))
            assert np.abs(np.asarray(made) / 255 - pixels).max() <= 0.5001 / 255
    replayed = convlens(server, "replay", tmp_path / "fooled" / "receipt.json")
    assert replayed.endswith("4 of 4 answers are equal bit for bit.\n")


def test_an_attack_within_no_reach_is_no_error(server: RunningServer, pictures: list[Path]) -> None:
    out = convlens(server, "attack", pictures[0], "--method", "fgsm:epsilon=0.1/255")
    assert "failed" in out
