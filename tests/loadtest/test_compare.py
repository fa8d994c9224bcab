"""`convlens-loadtest compare`: ratios, what is worse, and the code for pipelines."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

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
    assert line.split()[-3:] == ["+30.0", "%", "worse"]
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


def test_runs_with_nothing_in_common_are_no_success(invoke: Run, files) -> None:
    other = result_with()
    for each in other.phases:
        each.name = f"my-{each.name}"
    other.peak = None
    before, after = files(result_with(), other)
    result = invoke("compare", before, after, "--fail-above", "10%")
    assert result.exit_code == 1 and "have no phase in common" in result.stderr


def test_what_one_run_alone_has_is_told(invoke: Run, files) -> None:
    before, after = files(result_with(), result_with())
    document = json.loads(after.read_text())
    document["phases"].pop()
    after.write_text(json.dumps(document))
    assert "the first alone has rush" in invoke("compare", before, after).stdout


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda d: d["series"]["due"].append(3), "series: its curves are not of one length"),
        (lambda d: d["series"].update(interval=0), "series.interval: "),
        (lambda d: d["phases"][0]["figures"]["latency"].update(hdr="AAAA"), "no histogram: "),
    ],
)
def test_a_damaged_result_has_no_page(
    invoke: Run, files, tmp_path: Path, spoil: Callable[[Any], object], said: str
) -> None:
    bad, _ = files(result_with(), result_with())
    document = json.loads(bad.read_text())
    spoil(document)
    bad.write_text(json.dumps(document))
    result = invoke("page", bad, "-o", tmp_path / "page.html")
    assert result.exit_code == 1 and "is damaged: " in result.stderr and said in result.stderr
