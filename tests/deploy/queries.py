"""What queries of Prometheus ask for, and what there is."""

import re
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from convlens.server.metrics.page import every_metric

RULES = sorted((Path(__file__).parents[2] / "deploy/prometheus/rules").glob("*.yml"))
# Of Triton with a GPU, which no machine of the tests has: "GPU Metrics" of its documentation.
OF_GPUS = {"nv_gpu_utilization", "nv_gpu_memory_used_bytes", "nv_gpu_memory_total_bytes"}
# Of Triton with or without; tests/e2e/test_prometheus.py sees that they are there.
OF_TRITON = {
    *("nv_inference_request_success", "nv_inference_request_failure"),
    *("nv_cpu_utilization", "nv_cpu_memory_used_bytes", "nv_cpu_memory_total_bytes"),
}
OF_PROMETHEUS = {"up", "ALERTS"}


def rules() -> list[dict[str, Any]]:
    """All rules, of all files and groups."""
    groups = [group for file in RULES for group in yaml.safe_load(file.read_text())["groups"]]
    return [rule for group in groups for rule in group["rules"]]


@cache
def known_names() -> set[str]:
    """The names of the series that there are."""
    names = {rule["record"] for rule in rules() if "record" in rule}
    for metric in every_metric():
        parts = ("_bucket", "_sum", "_count") if metric.kind == "histogram" else ("",)
        names |= {metric.name + part for part in parts}
    return names | OF_GPUS | OF_TRITON | OF_PROMETHEUS


def asked_names(query: str) -> set[str]:
    """The names of the series that a query asks for."""
    without_values = re.sub(r'"[^"]*"', '""', query)
    without_labels = re.sub(r"\b(by|on|without)\s*\([^)]*\)", "", without_values)
    return set(
        re.findall(r"\b(?:[a-z]+:)?(?:convlens|nv)_[\w:]+|\bup\b|\bALERTS\b", without_labels)
    )


def unknown_names(query: str) -> set[str]:
    """Those of them that nobody has."""
    return asked_names(query) - known_names()
