"""`convlens-workers check`: what of a network works, what it costs, and what is wrong with it."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from convlens.contract.pools import CANARY, DESCRIBE
from convlens.workers.catalog import load_network
from convlens.workers.config import NetworkEntry
from convlens.workers.main import main, program
from convlens.workers.trials import TRIALS
from convlens.workers.usage import measured
from convlens.workers.worker import InferenceWorker

MODULE = """\
from torch import nn

class Late(nn.Module):
    def forward(self, x):
        if len(x) > 16:
            raise ValueError("too many rows")
        return x.mean((2, 3))

class InPlace(nn.Module):
    def forward(self, x):
        return x.relu().mul_(0.5).mean((2, 3)).exp().mul_(2)

class Nan(nn.Module):
    def forward(self, x):
        return x.mean((2, 3)) / 0 * 0
"""
INPUT = "{size: 16, mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5]}"
STEPS = ["load", "start inference", "start analysis", *(trial.name for trial in TRIALS)]


@pytest.fixture
def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Runs the command on a list of networks."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    module = f"checked_{abs(hash(tmp_path))}"
    (tmp_path / f"{module}.py").write_text(MODULE)

    def run(networks: str, *flags: str) -> Result:
        file = tmp_path / "networks.yaml"
        file.write_text(f"networks:\n{networks.replace('MODULE', module)}\n")
        return CliRunner().invoke(program, ["check", "--config", str(file), *flags])

    return run


def test_what_works(check: Any) -> None:
    result = check("- {name: shapes}\n- {name: shapes, version: '2', rows: 3, precision: bf16}")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0] == "shapes@1  (bundled:shapes)"
    table = lines[1 : lines.index("")]
    assert [line[2:22].strip() for line in table] == ["step", *STEPS]
    assert all(line[23:].startswith("works ") for line in table[1:])
    ends = {line.index(" s ") for line in table[1:]}
    assert len(ends) == 1, "the columns are aligned"
    text = result.stdout
    assert "292,842 parameters, input 3 x 128 x 128, 10 classes" in text
    assert "a drawn star: star 9" in text
    assert "pictures and scores within" in text and "served in bf16" in text
    assert "8 rows in one pass" in text and "3 rows in one pass" in text
    assert result.stderr.splitlines() == [
        "checking shapes@1 (1 of 2) …",
        "checking shapes@2 (2 of 2) …",
    ]


def test_what_does_not(check: Any) -> None:
    result = check(
        f"- {{name: late, builder: 'MODULE:Late', input: {INPUT}}}\n"
        f"- {{name: nan, builder: 'MODULE:Nan', input: {INPUT}}}\n"
        "- {name: shapes, labels: [a, b]}\n"
        "- {name: shapes, version: '2'}"
    )
    assert result.exit_code == 1
    networks = result.stdout.strip().split("\n\n")
    late, nan, labels, good = (" ".join(network.split()) for network in networks)
    assert "start inference FAILED" in late and "Classify" not in late
    assert "start analysis works" in late and "gradient works" in late
    assert "ValueError: too many rows (checked_" in late
    assert "Classify FAILED" in nan
    assert "the scores are not finite; the weights may hold NaN, or need fp32" in nan
    assert "gradient works" in nan
    assert "ExtractFeatures works" in nan and "logits: 3 numbers of" in nan
    assert "Saliency FAILED" in nan and "Saliency works" in good
    assert "Saliency with nan@1 gives" not in nan, "the forward pass is to blame"
    assert "first in the output of layer" in nan
    assert "load FAILED" in labels
    assert "networks.yaml:4: shapes@1: labels: there are 2 labels and" in labels
    assert "FAILED" not in good, "one bad network spoils no other"
    assert "Traceback" not in result.output


def test_a_network_without_gradients_can_still_classify(check: Any) -> None:
    result = check(f"- {{name: n, builder: 'MODULE:InPlace', input: {INPUT}}}")
    assert result.exit_code == 1
    text = " ".join(result.stdout.split())
    assert "start analysis FAILED" in text and "gradient works" not in text
    assert (
        "gradients do not work on this network: RuntimeError: one of the variables needed for "
        "gradient computation has been modified by an inplace operation"
    ) in text
    assert "Hint" not in text
    for step in ("start inference", "Classify", "ExtractFeatures", "one of many images"):
        assert f"{step} works" in text


def test_json(check: Any) -> None:
    result = check("- {name: shapes}\n- {name: shapes, version: '2', labels: [a]}", "--json")
    assert result.exit_code == 1
    document = json.loads(result.stdout)
    good, bad = document["networks"]
    assert (document["ok"], good["ok"], bad["ok"]) == (False, True, False)
    assert (good["network"], good["builder"]) == ("shapes@1", "bundled:shapes")
    assert [step["name"] for step in good["steps"]] == STEPS
    assert all(step["seconds"] > 0 and step["memory_bytes"] >= 0 for step in good["steps"])
    facts = good["facts"]
    assert (facts["parameters"], facts["classes"], facts["rows"]) == (292_842, 10, 8)
    assert (facts["precision"], facts["compiled"]) == ("PRECISION_FLOAT32", False)
    assert facts["input"]["height"] == 128
    assert bad["facts"] is None
    [step] = bad["steps"]
    assert (step["name"], step["ok"]) == ("load", False)
    assert "there are 1 labels and the network scores 10 classes" in step["detail"]


def test_every_method_of_the_workers_is_tried() -> None:
    worker = InferenceWorker(load_network(NetworkEntry(name="shapes"), "cpu"))
    worker.close()
    # Those that compute nothing with the network.
    told = {DESCRIBE, "NetworkService/ListPretrained"}
    assert worker.methods - told <= {trial.method for trial in TRIALS}
    assert CANARY in {trial.method for trial in TRIALS}


def test_a_wrong_file_is_a_line_for_each_mistake_and_exit_code_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "networks.yaml"
    file.write_text("networks:\n- name: a b\n- name: shapes\n  rows: 0\n")
    for command in (["check"], ["repository", "--out", str(tmp_path / "out")]):
        arguments = ["convlens-workers", *command, "--config", str(file)]
        monkeypatch.setattr("sys.argv", arguments)
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 1
        assert capsys.readouterr().err.splitlines() == [
            f"convlens-workers: {file}:2: networks.0.name: is 'a b'; must be letters, digits, "
            "_, . and - alone",
            f"convlens-workers: {file}:4: networks.1.rows: must be greater than or equal to 1 "
            "(given: 0)",
        ]


def test_a_folder_that_cannot_be_written_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    target = tmp_path / "file" / "out"
    monkeypatch.setattr("sys.argv", ["convlens-workers", "repository", "--out", str(target)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    error = capsys.readouterr().err
    assert error.startswith(f"convlens-workers: {target}") and error.count("\n") == 1


def test_memory_is_what_is_taken_beyond_the_start() -> None:
    with measured(None) as large:
        block = b"\1" * (64 * 2**20)
    with measured(None) as small:
        length = len(block)
    assert length == 64 * 2**20
    assert 60 * 2**20 < large.memory_bytes < 90 * 2**20
    assert small.memory_bytes < 8 * 2**20
    assert large.seconds > 0
