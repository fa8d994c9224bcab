"""`convlens-loadtest compare`: ratios, what is worse, and the code for pipelines."""

import json
from pathlib import Path

import pytest

from convlens.loadtest.results.model import Result
from tests.loadtest.conftest import Run
from tests.loadtest.results import result_with


@pytest.fixture
def files(tmp_path: Path):
    def write(before: Result, after: Result) -> list[Path]:
        paths = [tmp_path / "before.json", tmp_path / "after.json"]
        for path, result in zip(paths, (before, after), strict=True):
            path.write_text(json.dumps(result.document()))
        return paths

    return write


def test_a_slower_run_is_worse(invoke: Run, files) -> None:
    before, after = files(result_with(), result_with(scale=1.3))
    result = invoke("compare", before, after, "--fail-above", "10%")
    assert result.exit_code == 3, result.output
    [line] = [line for line in result.stdout.splitlines() if line.lstrip().startswith("p50")][:1]
    assert line.split()[-2:] == ["+30.0%", "worse"]
    assert "50 ms" in line and "65" in line
    # Of 100 requests a p99.9 says nothing.
    [thin] = [line for line in result.stdout.splitlines() if "p99.9" in line][:1]
    assert thin.endswith("few requests")
    assert invoke("compare", before, after, "--fail-above", "0.35").exit_code == 0
    assert invoke("compare", before, after).exit_code == 0
    assert invoke("compare", after, before, "--fail-above", "10%").exit_code == 0


def test_json_and_what_to_mind(invoke: Run, files) -> None:
    other = result_with()
    other.machine["cores"] = "64"
    other.phases[1].figures.goodput = 3
    before, after = files(result_with(), other)
    document = json.loads(invoke("compare", before, after, "--json").stdout)
    assert document["mind"] == ["the cores differ: 2 and 64"]
    worse = [(each["part"], each["metric"]) for each in document["differences"] if each["is_worse"]]
    assert worse == [("rush", "goodput")]
    assert document["worse"] == 1


def test_what_is_no_result_is_said(invoke: Run, files, tmp_path: Path) -> None:
    good, _ = files(result_with(), result_with())
    for text, said in {
        "{": "is no JSON",
        "{}": "has no result of this command",
        '{"format": "convlens-loadtest/1"}': "is damaged: version: Field required",
    }.items():
        bad = tmp_path / "bad.json"
        bad.write_text(text)
        result = invoke("compare", good, bad)
        assert result.exit_code == 1 and said in result.stderr, result.stderr
    assert "No such file" in invoke("compare", good, tmp_path / "none.json").stderr
    assert invoke("compare", good, good, "--fail-above", "much").exit_code == 2
