"""docs/loadtest.md: what it says is so, and its commands run as they stand there."""

import re
from pathlib import Path

import pytest

from convlens.loadtest.cli.program import COMMANDS
from convlens.loadtest.results.limits import METRICS, check_names, parse_limit
from convlens.loadtest.scenario import read_scenario, shipped, text_of
from tests.conftest import RunningServer, triton_is_slow
from tests.snippets import ROOT, Page, dead_links

PAGE = Page("loadtest")


@pytest.mark.slow
@triton_is_slow
def test_the_shell_blocks_run(server: RunningServer, tmp_path: Path) -> None:
    lines = PAGE.run_shell(server, tmp_path)
    assert [line.split()[0] for line in lines[: len(shipped())]] == shipped()
    assert sum(line.startswith("holds") for line in lines) == 5
    for name in ("page", "again"):
        assert (tmp_path / f"{name}.html").read_text(encoding="utf-8").endswith("</html>")


def test_links_are_there() -> None:
    assert dead_links(PAGE) == []
    assert dead_links(Page("scenarios")) == []
    assert (ROOT / "docs/pictures/loadtest.png").stat().st_size > 50_000


def test_every_scenario_command_and_metric_is_told() -> None:
    for name in shipped():
        assert f"| `{name}` |" in PAGE.text
    for name in METRICS:
        assert re.search(rf"`{name}[`\[]", PAGE.text), name
    told = set(re.findall(r"convlens-loadtest (\w+) ", PAGE.text))
    assert COMMANDS.keys() - {"run", "completion"} <= told | {"limit"}


def test_its_limits_are_limits() -> None:
    [block] = re.findall(r"^```\n\[PART:\].*?\n(.*?)^```$", PAGE.text, re.DOTALL | re.MULTILINE)
    texts = [text for line in block.splitlines() for text in re.split(r"\s{3,}", line) if text]
    assert len(texts) == 6
    for text in texts:
        check_names(parse_limit(text), ["overload", "mixed", "alone"], ["classify"], [])


def test_the_quickstart_is_about_scenarios_that_there_are() -> None:
    changed = re.findall(r"--set phases\.([\w-]+)\.", PAGE.text)
    names = [phase.name for phase in read_scenario(text_of("smoke")).phases]
    assert changed and set(changed) <= set(names)
