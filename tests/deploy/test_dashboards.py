"""The dashboards as files; that their queries find something is tests/e2e/test_prometheus.py's."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from convlens.server.metrics.page import every_metric
from deploy.grafana.write import FOLDER, dashboards
from tests.deploy.kubectl import rendered
from tests.deploy.manifests import ROOT, named
from tests.deploy.queries import unknown_names

BOARDS: dict[str, Any] = {file.name: json.loads(file.read_text()) for file in FOLDER.iterdir()}
DOCKER, PROVISIONING = ROOT / "deploy/docker", ROOT / "deploy/grafana/provisioning"
# Those of Grafana that are meant here.
UNITS = {"reqps", "ops", "s", "bytes", "percentunit", "none"}
WIDTH = 24


def panels(board: Any) -> list[Any]:
    return [each for each in board["panels"] if each["type"] != "row"]


def test_dashboards_are_what_is_written_of_them() -> None:
    assert {file.name: file.read_text() for file in FOLDER.iterdir()} == dashboards()


def test_each_dashboard_is_another_one() -> None:
    for key in ("uid", "title", "description"):
        assert len({board[key] for board in BOARDS.values()}) == len(BOARDS)
    assert {f"{board['uid']}.json" for board in BOARDS.values()} == set(BOARDS)


@pytest.mark.parametrize("name", BOARDS)
def test_panels_say_what_they_show(name: str) -> None:
    board = BOARDS[name]
    ids = [each["id"] for each in board["panels"]]
    assert len(ids) == len(set(ids)) and min(ids) > 0
    titles = [each["title"] for each in panels(board)]
    assert len(titles) == len(set(titles)) and all(titles)
    for panel in panels(board):
        title = panel["title"]
        assert re.fullmatch(r"[A-Z0-9`].+\.", panel["description"], re.DOTALL), title
        assert panel["fieldConfig"]["defaults"]["unit"] in UNITS, title
        assert panel["datasource"] == {"type": "prometheus", "uid": "$datasource"}, title
        references = [target["refId"] for target in panel["targets"]]
        assert references and len(references) == len(set(references)), title
        assert all(target["legendFormat"] for target in panel["targets"]), title


@pytest.mark.parametrize("name", BOARDS)
def test_no_panel_lies_on_another(name: str) -> None:
    taken: dict[tuple[int, int], str] = {}
    for panel in BOARDS[name]["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= WIDTH
        for x in range(at["x"], at["x"] + at["w"]):
            for y in range(at["y"], at["y"] + at["h"]):
                other = taken.setdefault((x, y), panel["title"])
                assert other == panel["title"], f"{panel['title']} lies on {other}"


@pytest.mark.parametrize("name", BOARDS)
def test_variables_are_declared_and_used(name: str) -> None:
    board = BOARDS[name]
    declared = {each["name"]: each for each in board["templating"]["list"]}
    assert declared["datasource"]["query"] == "prometheus"
    queries = [target["expr"] for panel in panels(board) for target in panel["targets"]]
    used = {word for query in queries for word in re.findall(r"\$(\w+)", query)}
    assert used - {"__rate_interval"} == set(declared) - {"datasource"}
    labels = {metric.name: metric.labels for metric in every_metric()}
    for variable in declared.values():
        if variable["type"] == "query":
            [(metric, label)] = re.findall(r"^label_values\((\w+), (\w+)\)$", variable["query"])
            found = labels.get(metric) or labels[metric.removesuffix("_count")]
            assert label in found or label == "namespace"
            assert (variable["allValue"], variable["includeAll"]) == (".*", True)


@pytest.mark.parametrize("name", BOARDS)
def test_queries_ask_for_what_there_is(name: str) -> None:
    for panel in panels(BOARDS[name]):
        for target in panel["targets"]:
            assert unknown_names(target["expr"]) == set(), panel["title"]
            labels = re.findall(r"{{(\w+)}}", target["legendFormat"])
            by = " ".join(re.findall(r"by \(([^)]*)\)", target["expr"]))
            if by:
                assert all(re.search(rf"\b{label}\b", by) for label in labels), panel["title"]


def test_a_name_that_nobody_has_is_told() -> None:
    assert unknown_names('sum(rate(convlens_request_total{rpc="x"}[5m]))') == {
        "convlens_request_total"
    }
    assert unknown_names('pool:convlens_queue:sum{a="convlens_b"} / nv_gpu_use') == {
        *("pool:convlens_queue:sum", "nv_gpu_use")
    }


def test_grafana_gets_them_on_one_machine_and_in_a_cluster() -> None:
    config = named(rendered("monitoring"), "ConfigMap", "convlens-dashboards")
    assert config
    assert {key: json.loads(text) for key, text in config["data"].items()} == BOARDS
    assert config["metadata"]["labels"]["grafana_dashboard"] == "1"
    compose = yaml.safe_load((DOCKER / "compose.yaml").read_text())
    mounts = [each.split(":") for each in compose["services"]["grafana"]["volumes"]]
    places = {inside: (DOCKER / outside).resolve() for outside, inside, *_ in mounts}
    [provider] = yaml.safe_load((PROVISIONING / "dashboards/convlens.yaml").read_text())[
        "providers"
    ]
    assert places[provider["options"]["path"]] == FOLDER.resolve()
    assert places["/etc/grafana/provisioning"] == PROVISIONING
    [source] = yaml.safe_load((PROVISIONING / "datasources/prometheus.yaml").read_text())[
        "datasources"
    ]
    assert source["type"] == "prometheus" and source["isDefault"]
    assert Path(source["url"]).name == f"prometheus:{port_of(compose)}"


def port_of(compose: Any) -> str:
    """The port of Prometheus within the compose file."""
    [published] = compose["services"]["prometheus"]["ports"]
    return published.rpartition(":")[2]
