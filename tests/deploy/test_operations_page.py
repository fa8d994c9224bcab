"""docs/operations.md: its commands are commands, and what it names is there."""

import re
import shlex
import subprocess
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest

from convlens.contract.errors import reason_name
from convlens.server.access.new_token import make_token
from convlens.server.settings import Settings
from convlens.v1.error_pb2 import ErrorReason
from convlens.workers.config import Pools
from convlens.workers.main import program as workers
from tests.conftest import RunningServer
from tests.deploy.kubectl import kubectl, rendered
from tests.deploy.manifests import of_kind
from tests.deploy.queries import known_names, rules
from tests.deploy.test_dashboards import BOARDS, panels
from tests.snippets import ROOT, Page, dead_links, run

PAGE = Page("operations")
NETWORKS = ROOT / "deploy/kubernetes/base/networks.yaml"
ALERTS = [rule for rule in rules() if "alert" in rule]
# Words with an underscore that are no setting, metric or key of a pool: of networks.yaml, of the
# log, of Kubernetes' and Grafana's labels, of requests.
OTHERS = {
    *("traffic_weight", "request_id", "grafana_dashboard", "runbook_url", "allow_partial"),
    *("round_robin",),
}


def commands(language: str) -> list[list[str]]:
    """The lines of all snippets in a language, in words."""
    return [shlex.split(line) for line in PAGE.blocks(language).splitlines() if line]


def inline() -> list[str]:
    """What stands between backticks in the text."""
    return re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```$", "", PAGE.text, flags=re.S | re.M))


def test_every_alert_has_its_heading() -> None:
    headings = re.findall(r"^### (.+)$", PAGE.text, re.MULTILINE)
    assert headings == sorted(set(headings), key=headings.index)
    assert set(headings) == {alert["alert"] for alert in ALERTS}
    for alert in ALERTS:
        file, _, place = alert["annotations"]["runbook_url"].partition("#")
        assert ROOT / file == ROOT / "docs/operations.md"
        assert place in {heading.lower() for heading in headings}


def test_links_are_there() -> None:
    assert dead_links(PAGE) == []


def test_metrics_and_settings_are_there() -> None:
    pools = Pools()
    known = known_names() | set(Settings.model_fields) | OTHERS
    known |= set(type(pools.inference).model_fields) | set(type(pools.analysis).model_fields)
    words = {word for text in inline() for word in re.findall(r"[a-z:]+_[\w:]+", text)}
    assert words - known == set()
    assert OTHERS - words == set()


def test_reasons_panels_and_lines_of_the_log_are_there() -> None:
    reasons = {reason_name(value) for value in ErrorReason.values()}
    assert set(re.findall(r"\b[A-Z]+_[A-Z_]+\b", PAGE.text)) <= reasons
    titles = {panel["title"] for board in BOARDS.values() for panel in panels(board)}
    titles |= {row["title"] for board in BOARDS.values() for row in board["panels"]}
    quoted = set(re.findall(r'"([A-Z][a-z][^"`\n]+)"', PAGE.text.replace('le="1.0"', "")))
    assert len(quoted) > 5 and quoted <= titles
    for board in BOARDS.values():
        assert f"| {board['title']} |" in PAGE.text
    sources = "".join(file.read_text() for file in (ROOT / "server").rglob("*.py"))
    for line in ("triton out of reach", "not reloaded", "server process ended"):
        assert f"`{line}`" in PAGE.text and f'"{line}' in sources


def test_thresholds_are_those_of_the_scalers() -> None:
    thresholds = {
        (scaled["metadata"]["name"], number): trigger["metadata"]["threshold"]
        for scaled in of_kind(rendered("keda"), "ScaledObject")
        for number, trigger in enumerate(scaled["spec"]["triggers"])
    }
    said = {
        f"| {thresholds['triton-inference', 0]} jobs in the inference pool, "
        f"{thresholds['triton-analysis', 0]} in the analysis pool |",
        f"| {thresholds['triton-inference', 1]} second of waiting",
        f"| {thresholds['convlens', 0]} calls for each server |",
    }
    assert all(each in PAGE.text for each in said)


def test_objectives_are_those_of_the_alerts() -> None:
    budgets = {each for alert in ALERTS for each in re.findall(r"\* (0\.\d+) \*", alert["expr"])}
    slow = [each for alert in ALERTS for each in re.findall(r"> (0\.\d+) \* p", alert["expr"])]
    assert budgets == {"0.001", "0.01"} and set(slow) == {"0.05"}
    assert "They stand as 0.001 and 0.01 in" in PAGE.text and "More than 5 % of" in PAGE.text
    assert any('le="1.0"' in rule["expr"] for rule in rules() if "record" in rule)


def test_callers_ask_as_the_page_says(
    servers: Callable[[str], RunningServer], tmp_path: Path
) -> None:
    asked = [shlex.join(words) for words in commands("bash") if words[0] == "convlens"]
    assert len(asked) == 2
    lines = run(servers("embedded"), tmp_path, "bash", "-e", "-c", "\n".join(asked))
    assert any("shapes@1" in line for line in lines)


def test_workers_server_and_promtool_are_asked_as_the_page_says(
    capsys: pytest.CaptureFixture[str],
) -> None:
    ran = set[str]()
    for program, *words in commands("bash"):
        given = [str(NETWORKS) if word == "networks.yaml" else word for word in words]
        ran.add(f"{program} {words[0]}")
        if program == "convlens-workers" and words[0] == "check":
            workers.commands["check"].make_context("check", given[1:])
        elif program == "convlens-workers":
            workers.main(given, standalone_mode=False)
            assert re.fullmatch(r"\d+Mi\n", capsys.readouterr().out)
        elif program == "convlens-server":
            assert words[0] == "token" and make_token(given[1:]) == 0
            assert "scopes" in capsys.readouterr().out
        elif program == "promtool":
            subprocess.run([program, *words], cwd=ROOT, check=True, capture_output=True)
        elif program == "python":
            assert words[0] == "-m" and find_spec(words[1])
        else:
            assert program == "convlens"
    assert len(ran) == 7


@cache
def options(*words: str) -> set[str]:
    """The options that kubectl has with a command."""
    told = subprocess.run([kubectl(), *words, "--help"], capture_output=True, text=True, timeout=30)
    assert told.returncode == 0 and "Usage:" in told.stdout, words
    return set(re.findall(r"(?<!\w)(--?[a-z][a-z-]*)", told.stdout))


def test_kubectl_understands_what_it_is_told() -> None:
    known = {
        f"{each['kind'].lower()}/{each['metadata']['name']}"
        for each in (*rendered("keda"), *rendered("mtls"))
    }
    told = [words for words in commands("text") if words[0] == "kubectl"]
    told += [text.split() for text in inline() if text.startswith("kubectl ")]
    assert len(told) > 12
    for _, *words in told:
        if words[0] == "-n":
            assert words[1] == "convlens"
            words = words[2:]
        depth = 2 if words[0] == "rollout" else 1
        flags = {word.partition("=")[0] for word in words if word.startswith("-")}
        assert flags <= options(*words[:depth]), words
        for word in words:
            if "/" in word and not word.startswith("app."):
                assert word in known, words
        if words[0] == "describe":
            assert "/".join(words[1:3]) in known
