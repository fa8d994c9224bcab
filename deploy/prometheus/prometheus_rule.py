"""Writes the PrometheusRules of the monitoring component from the rule files beside this one.

uv run python -m deploy.prometheus.prometheus_rule
"""

from pathlib import Path
from textwrap import indent

DEPLOY = Path(__file__).parents[1]
RULES = sorted((DEPLOY / "prometheus/rules").glob("*.yml"))
TARGET = DEPLOY / "kubernetes/components/monitoring/prometheusrule.yaml"

HEAD = """apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: convlens-{name}
spec:
"""


def prometheus_rules() -> str:
    """One for each rule file, with its comments."""
    documents = (
        HEAD.format(name=file.stem) + indent(file.read_text(encoding="utf-8"), "  ")
        for file in RULES
    )
    note = (
        "# Written by python -m deploy.prometheus.prometheus_rule from deploy/prometheus/rules.\n"
    )
    return note + "---\n".join(documents)


if __name__ == "__main__":
    TARGET.write_text(prometheus_rules(), encoding="utf-8")
