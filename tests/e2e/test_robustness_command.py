"""`convlens robustness` against a real server: the SDK's curve, and a run that goes on."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from convlens.client import Client, LabeledImage, RobustnessDone
from convlens.client.methods import FGSM
from tests.conftest import RunningServer, running_server

EPSILONS = [4 / 255, 16 / 255]


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with running_server(engine="embedded") as running:
        yield running


def test_the_command_has_the_curve_of_the_sdk(
    server: RunningServer, pictures: list[Path], tmp_path: Path
) -> None:
    lines = [f"{path.name},{path.name.split('-')[0]}" for path in pictures]
    (tmp_path / "labels.csv").write_text("\n".join(["file,label", *lines]))
    command = [sys.executable, "-m", "convlens.client.cli", "robustness", str(pictures[0].parent)]
    command += ["--labels", str(tmp_path / "labels.csv"), "--attack", "fgsm", "--json"]
    command += ["--epsilons", "4/255,16/255", "--checkpoint", str(tmp_path / "run.json")]
    environment = {**os.environ, "CONVLENS_SERVER": server.address}
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100)
    assert (run.returncode, run.stderr) == (0, "")
    [found] = json.loads(run.stdout)["evaluations"]
    images = [LabeledImage(path.name, path, path.name.split("-")[0]) for path in pictures]
    with Client(server.address) as client:
        *_, done = client.evaluate_robustness(iter(images), FGSM(), epsilons=EPSILONS)
        assert isinstance(done, RobustnessDone)
        cost = client.estimate_robustness(iter(images), FGSM(), epsilons=EPSILONS)
    assert [point["accuracy"] for point in found["points"]] == [p.accuracy for p in done.points]
    assert done.points[0].accuracy > done.points[2].accuracy
    assert cost == done.estimated_cost
    again = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100)
    assert json.loads(again.stdout)["evaluations"][0]["points"] == found["points"]
