"""The manifests: every overlay is made, each document has its schema, and all of them agree."""

import json
import re
import subprocess
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
import yaml

from convlens.client import _transport
from convlens.server import gateway
from convlens.server.metrics.page import every_metric
from convlens.server.triton import jobs
from tests.deploy import schemas
from tests.deploy.commands import server_settings
from tests.deploy.invariants import RULES
from tests.deploy.kubectl import COMPONENTS, KUBERNETES, OVERLAYS, Doc, build, combined, rendered
from tests.deploy.manifests import SERVER, containers, of_kind, script_flag, workloads

# What is told to stand beside one of the others.
BESIDE = {"loadtest": "cpu"}


def whole(overlay: str) -> list[Doc]:
    """What a cluster has that got an overlay."""
    under = BESIDE.get(overlay)
    return [*(rendered(under) if under else []), *rendered(overlay)]


def complaints(docs: list[Doc]) -> list[str]:
    return [f"{name}: {each}" for name, rule in RULES.items() for each in rule(docs)]


def test_every_document_has_its_schema() -> None:
    docs = [doc for overlay in OVERLAYS for doc in rendered(overlay)]
    each_once = {json.dumps(doc, sort_keys=True): doc for doc in docs}.values()
    assert [mistake for doc in each_once for mistake in schemas.mistakes(doc)] == []
    assert {"Deployment", "ScaledObject", "Certificate"} <= {doc["kind"] for doc in each_once}


def test_a_document_without_a_schema_or_beside_it_is_refused() -> None:
    meta = {"metadata": {"name": "x"}}
    for api, kind in (("example.com/v1", "ServiceMonitors"), ("apps/v1", "Deploymend")):
        assert list(schemas.mistakes({"apiVersion": api, "kind": kind, **meta}))
    docs = rendered("keda")
    [deployment, *_] = of_kind(docs, "Deployment")
    deployment["spec"]["template"]["spec"]["containers"][0]["readinesProbe"] = {}
    [scaled, *_] = of_kind(docs, "ScaledObject")
    scaled["spec"]["triggers"][0]["metadata"]["treshold"] = "1"
    [monitor] = of_kind(rendered("monitoring"), "ServiceMonitor")
    monitor["spec"]["endpoints"][0]["interval"] = "soon"
    for doc in (deployment, scaled, monitor):
        assert list(schemas.mistakes(doc))


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_what_an_overlay_has_fits_together(overlay: str) -> None:
    assert complaints(whole(overlay)) == []


def test_components_go_with_each_other(tmp_path: Path) -> None:
    many = [each for each in COMPONENTS if each not in ("hpa", "weights-volume")]
    docs = combined(tmp_path / "one", "mig", *many)
    assert complaints(docs) == []
    [server] = workloads(docs, SERVER)
    settings = server_settings(docs, server)
    assert settings.tokens and settings.tls_client_ca and not settings.insecure
    others = combined(tmp_path / "two", "gpu", "weights-volume", "hpa")
    assert complaints(others) == []
    mistakes = [mistake for doc in (*docs, *others) for mistake in schemas.mistakes(doc)]
    assert mistakes == []


def test_an_overlay_of_ones_own_as_the_page_shows_it(tmp_path: Path) -> None:
    page = (KUBERNETES.parent / "README.md").read_text()
    [text] = re.findall(r"```yaml\n(# kustomization.yaml\n.*?)```", page, re.DOTALL)
    copytree(KUBERNETES, tmp_path / "convlens/deploy/kubernetes")
    own = tmp_path / "own"
    own.mkdir()
    (own / "kustomization.yaml").write_text(text)
    (own / "networks.yaml").write_text("networks: [{name: shapes}, {name: shapes-robust}]\n")
    docs = build(own)
    assert {each.partition(": ")[2] for each in complaints(docs)} == {
        f"triton-{pool}: /dev/shm must be 576Mi" for pool in ("inference", "analysis")
    }
    config = [each for each in of_kind(docs, "ConfigMap") if "networks.yaml" in each["data"]]
    assert ["shapes-robust" in each["data"]["networks.yaml"] for each in config] == [True]


def test_connections_may_be_pinged_as_often_as_they_are() -> None:
    [period] = [
        int(value.replace("_", ""))
        for value in re.findall(
            r'"grpc.keepalive_time_ms", ([\d_]+)', Path(_transport.__file__).read_text()
        )
    ]
    assert period > gateway.LEAST_PING_MS
    # To Triton, which by default would cut off who pings more than once in five minutes.
    to_triton = dict(jobs.options(""))["grpc.keepalive_time_ms"]
    assert int(script_flag("grpc-http2-min-recv-ping-interval-without-data")) < to_triton


def expressions() -> dict[str, str]:
    """What is asked of Prometheus, by where."""
    found: dict[str, str] = {}
    for scaled in of_kind(rendered("keda"), "ScaledObject"):
        for number, trigger in enumerate(scaled["spec"]["triggers"]):
            found[f"{scaled['metadata']['name']} {number}"] = trigger["metadata"]["query"]
    rules = yaml.safe_load((KUBERNETES / "components/hpa/prometheus-adapter.yaml").read_text())
    for rule in rules["rules"]["external"]:
        query = rule["metricsQuery"].replace("<<.Series>>", rule["seriesQuery"].partition("{")[0])
        query = query.replace("<<.LabelMatchers>>", 'pool="analysis"')
        found[rule["name"]["as"]] = query.replace("<<.GroupBy>>", "namespace")
    return found


def test_what_scaling_asks_prometheus_is_there_and_understood(tmp_path: Path) -> None:
    asked = expressions()
    rules = [
        {"record": f"asked:{number}", "expr": query} for number, query in enumerate(asked.values())
    ]
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "asked", "rules": rules}]}))
    subprocess.run(["promtool", "check", "rules", str(file)], check=True, capture_output=True)
    metrics: dict[str, Any] = {}
    for metric in every_metric():
        for suffix in ("", "_sum", "_count", "_bucket"):
            metrics[metric.name + suffix] = metric
    for where, query in asked.items():
        names = re.findall(r"convlens_\w+", query)
        assert names, where
        for name, labels in re.findall(r"(convlens_\w+)(?:\{(.*?)\})?", query):
            assert name in metrics, f"{where}: there is no {name}"
            used = set(re.findall(r"(\w+)=", labels)) - {"namespace"}
            assert used - {"pool"} <= set(metrics[name].labels), f"{where}: {name} has no {used}"


def test_a_pool_is_asked_for_by_metrics_that_are_made() -> None:
    rules = yaml.safe_load((KUBERNETES / "components/hpa/prometheus-adapter.yaml").read_text())
    made = {rule["name"]["as"] for rule in rules["rules"]["external"]}
    asked = {
        metric["external"]["metric"]["name"]
        for each in of_kind(rendered("hpa"), "HorizontalPodAutoscaler")
        for metric in each["spec"]["metrics"]
    }
    assert asked == made


def test_mig_and_gpus_are_what_the_pods_ask_for() -> None:
    def devices(overlay: str) -> set[str]:
        limits = [
            container.get("resources", {}).get("limits", {})
            for each in workloads(rendered(overlay))
            for container in containers(each)
        ]
        return {key for limit in limits for key in limit if key.startswith("nvidia.com/")}

    assert devices("cpu") == set()
    assert devices("gpu") == {"nvidia.com/gpu"}
    assert devices("mig") == {"nvidia.com/mig-1g.10gb", "nvidia.com/mig-3g.40gb"}
