"""The benchmarks without a server compute what they say, with what they say they need."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import merging
from benchmarks.worker_side import picture, request, served, working
from convlens.v1 import explanation_methods_pb2 as methods

ROOT = Path(__file__).parents[2]
NETWORK = "bundled:shapes"
# What a machine with torch need not have.
MISSING = (
    "captum",
    "click",
    "cmap",
    "convlens.client",
    "convlens.server",
    "cv2",
    "foolbox",
    "grpc",
    "pandas",
    "psutil",
    "rich",
    "scipy",
    "skimage",
    "structlog",
    "timm",
)
RUN = """
import sys
for name in {blocked!r}:
    sys.modules[name] = None
sys.argv = ["device", {arguments}]
from benchmarks import device
device.LEAST_SECONDS = 0.01
device.main()
"""


def test_jobs_at_once_share_micro_batches_and_compute_the_same(tmp_path: Path) -> None:
    file = tmp_path / "merging.json"
    merging.run(file, "cpu", NETWORK, jobs=8, steps=2, rounds=1)
    sides = json.loads(file.read_text())["sides"]
    apart, together, shared_apart, shared = (works[0] for works in sides.values())
    for each in (together, shared_apart, shared):
        assert each["forward_passes"] == apart["forward_passes"] > 8
        assert each["backward_passes"] == apart["backward_passes"] > 8
    assert together["micro_batches"] == pytest.approx(apart["micro_batches"])
    assert shared["micro_batches"] < shared_apart["micro_batches"]


def test_a_part_that_fails_ends_the_benchmark() -> None:
    network = served(NETWORK, "cpu")
    wrong = request([picture(network, 0)], methods.Activations(layer="none.such"))
    with (
        working(network, share=False) as worker,
        pytest.raises(RuntimeError, match=r"none\.such"),
    ):
        worker.at_once([wrong])


def test_a_device_is_measured_with_few_packages(tmp_path: Path) -> None:
    file = tmp_path / "device.json"
    words = ["--device", "cpu", "--networks", NETWORK, "--precisions", "fp32", "--json", str(file)]
    numbers = {"--batches": 2, "--images": 1, "--rounds": 1, "--steps": 1, "--attack-steps": 1}
    words += [word for pair in numbers.items() for word in map(str, pair)] + ["--matrix", "256"]
    program = RUN.format(blocked=MISSING, arguments=", ".join(map(repr, words)))
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert ended.returncode == 0, ended.stderr
    found = json.loads(file.read_text())
    rows = {row["name"]: row for row in found[f"{NETWORK}, fp32"]}
    assert len(rows) == 8 and "occlusion, window 28, stride 14" in rows
    assert all(min(row["images_per_second"]) > 0 for row in rows.values())
    # Nothing is faster than the largest matrix product by far, if it was made in peace.
    assert 0 < rows["saliency"]["of_peak"] < 100 and rows["Grad-CAM"]["of_peak"] is None
