"""The rules of Prometheus: each alert fires when it should and not before, and scalers agree."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from convlens.contract.errors import reason_name
from convlens.contract.pools import POOL_OF_SERVICE
from convlens.server.contract import RPCS
from convlens.v1.error_pb2 import ErrorReason
from deploy.prometheus.prometheus_rule import TARGET, prometheus_rules
from tests.deploy.kubectl import rendered
from tests.deploy.manifests import ROOT, of_kind
from tests.deploy.queries import RULES, asked_names, rules, unknown_names
from tests.deploy.test_kubernetes import expressions

SCENARIOS = sorted((Path(__file__).parent / "alerts").glob("*.test.yml"))
ALERTS = [rule for rule in rules() if "alert" in rule]
SEVERITIES = {"critical", "warning", "info"}


def promtool(*arguments: str | Path) -> None:
    done = subprocess.run(
        ["promtool", *map(str, arguments)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_rules_are_understood() -> None:
    promtool("check", "rules", *RULES)


@pytest.mark.parametrize("file", SCENARIOS, ids=lambda file: file.name.partition(".")[0])
def test_alerts_fire_when_they_should(file: Path) -> None:
    promtool("test", "rules", file)


def expectations() -> dict[str, set[bool]]:
    """By alert and severity: whether it is seen to fire, and not to."""
    found: dict[str, set[bool]] = {}
    known: dict[str, list[str]] = {}
    for alert in ALERTS:
        known.setdefault(alert["alert"], []).append(alert["labels"]["severity"])
    for file in SCENARIOS:
        for scenario in yaml.safe_load(file.read_text())["tests"]:
            for each in scenario["promql_expr_test"]:
                [name] = re.findall(r'alertname="(\w+)"', each["expr"]) or [""]
                fires = bool(each["exp_samples"])
                if 'alertstate="firing"' in each["expr"]:
                    severities = re.findall(r'severity="(\w+)"', str(each))
                    # Where there are several, one that fires does not say which it is.
                    if not severities and (not fires or len(known[name]) == 1):
                        severities = known[name]
                    for severity in severities:
                        found.setdefault(f"{name} {severity}", set()).add(fires)
    return found


def test_each_alert_has_a_scenario_in_which_it_fires_and_one_in_which_not() -> None:
    seen = expectations()
    for alert in ALERTS:
        name = f"{alert['alert']} {alert['labels']['severity']}"
        assert seen.get(name) == {True, False}, name
    assert {name.split()[0] for name in seen} == {alert["alert"] for alert in ALERTS}


def test_a_cluster_gets_the_same_rules() -> None:
    assert TARGET.read_text() == prometheus_rules()
    made = of_kind(rendered("monitoring"), "PrometheusRule")
    files = {f"convlens-{file.stem}": yaml.safe_load(file.read_text()) for file in RULES}
    assert {each["metadata"]["name"]: each["spec"] for each in made} == files
    config = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    [pattern] = config["rule_files"]
    assert sorted((ROOT / "deploy/prometheus").glob(pattern)) == RULES


def test_alerts_say_what_is_the_matter() -> None:
    for alert in ALERTS:
        name, notes = alert["alert"], alert["annotations"]
        assert alert["labels"].keys() == {"severity"}
        assert alert["labels"]["severity"] in SEVERITIES
        assert notes.keys() == {"summary", "description", "runbook_url"}
        assert not notes["summary"].endswith(".") and notes["description"].endswith("."), name
        assert notes["runbook_url"] == f"docs/operations.md#{name.lower()}"


def test_rules_ask_for_what_there_is() -> None:
    reasons = {reason_name(value) for value in ErrorReason.values()}
    for rule in rules():
        assert asked_names(rule["expr"]) and not unknown_names(rule["expr"]), rule
        for words in re.findall(r'\breason=~?"([^"]+)"', rule["expr"]):
            assert set(words.split("|")) <= reasons


def test_the_rates_of_answers_count_each_rpc_of_their_pool_once() -> None:
    streams = {rpc.name for rpc in RPCS.values() if rpc.streams_in}
    for rule in rules():
        if not rule.get("record", "").startswith("pool:convlens_answers"):
            continue
        wanted = {
            rpc.name
            for path, rpc in RPCS.items()
            if POOL_OF_SERVICE.get(path.split("/")[1]) == rule["labels"]["pool"]
        }
        for metric, selected in re.findall(r"(convlens_\w*requests_total){(.*?)}", rule["expr"]):
            [only] = re.findall(r'rpc=~"(.*?)"', selected)
            [out] = re.findall(r'rpc!~"(.*?)"', selected) or [""]
            # A metric of streams has no others.
            there = streams if "stream" in metric else {rpc.name for rpc in RPCS.values()}
            found = {n for n in there if re.fullmatch(only, n) and not re.fullmatch(out, n)}
            assert found == (wanted & streams if "stream" in metric else wanted - streams)


def test_jobs_are_called_so_by_prometheus_and_the_operator() -> None:
    meant = set[str]()
    for alert in ALERTS:
        for words in re.findall(r'\bup{job=~?"([^"]+)"}', alert["expr"]):
            before, _, inner = words.rstrip(")").partition("(")
            meant |= {before + each for each in inner.split("|")}
    config = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    assert meant == {job["job_name"] for job in config["scrape_configs"]}
    docs = rendered("monitoring")
    [monitor] = of_kind(docs, "ServiceMonitor")
    label = monitor["spec"]["jobLabel"]
    services = of_kind(docs, "Service")
    assert meant == {each["metadata"]["labels"][label] for each in services}


def test_scalers_are_told_what_is_recorded(tmp_path: Path) -> None:
    scenario = yaml.safe_load((SCENARIOS[0].parent / "scalers.test.yml").read_text())
    [test] = scenario["tests"]
    expected = {
        ("stage_seconds" if "compute" in each["expr"] else "queue_length", pool): each
        for each in test["promql_expr_test"]
        for pool in re.findall(r'pool="(\w+)"', each["expr"])
    }
    asked: list[dict[str, Any]] = []
    for query in expressions().values():
        for (metric, pool), recorded in expected.items():
            if metric in query and f'pool="{pool}"' in query:
                asked.append({**recorded, "expr": f"vector(scalar({query}))"})
    # Of each pool KEDA's two, and of the analysis pool those of prometheus-adapter.
    assert len(asked) == 6
    test["promql_expr_test"] += asked
    file = tmp_path / "scalers.yml"
    file.write_text(yaml.safe_dump({**scenario, "rule_files": [str(each) for each in RULES]}))
    promtool("test", "rules", file)


def test_an_alert_fires_where_scaling_has_not_helped() -> None:
    [growing] = [each for each in ALERTS if each["alert"] == "ConvLensQueueGrowing"]
    limits = dict(re.findall(r'per_triton{pool="(\w+)"} > (\d+)', growing["expr"]))
    thresholds = {
        scaled["metadata"]["name"].removeprefix("triton-"): trigger["metadata"]["threshold"]
        for scaled in of_kind(rendered("keda"), "ScaledObject")
        for trigger in scaled["spec"]["triggers"]
        if "convlens_queue_length" in trigger["metadata"]["query"]
    }
    assert limits == thresholds
    board = (TARGET.parent / "dashboards/convlens-overview.json").read_text()
    said = "above {inference} in the inference pool, and above {analysis} in the analysis"
    assert said.format(**limits) in board
