"""Writes docs/metrics.md from the registry of a server.

uv run python -m convlens.server.metrics.page docs
"""

import sys
from pathlib import Path

from convlens.server.metrics.metrics import Metrics
from convlens.server.metrics.process_metrics import ProcessMetrics
from convlens.server.metrics.registry import Described, Registry
from convlens.server.metrics.triton import TritonMetrics

HEAD = """# Metrics

The server shows these to Prometheus at `http://<metrics_listen>/metrics`. Values of labels come
from the contract and from the served networks alone, never from what a caller sends, so their
number is bounded: `rpc` is `Service/Method`; `network` is `name@version`, empty where a call
names none that is served; `method` is an explanation, an attack or a synthesis as its message
names it; `pool` is `inference` or `analysis`; `model` is Triton's name of a network's pool;
`triton` is an address, empty under the engine `embedded`. A histogram has `_bucket`, `_sum` and
`_count`.

With [several processes](processes.md) one address shows all of them together:
counters and histograms are summed, those of ended processes included; gauges are summed over
those that run, and of what all of them see, such as Triton's workers, the largest is shown.
Gauges are then up to half a second old. What one says of a worker of Triton is as of the worker's
last answer.

Triton's own metrics, `nv_*`, are at its own address ([a Triton of your own](triton.md)).

This page is written from the server's registry by `python -m convlens.server.metrics.page docs`.

| name | type | labels | unit | meaning | engine |
|---|---|---|---|---|---|
"""


def every_metric() -> list[Described]:
    """Each metric that a server may have."""
    metrics, processes = Metrics(), Registry()
    TritonMetrics(metrics)
    ProcessMetrics(processes, float)
    return [*metrics.registry.described, *processes.described]


def metrics_page() -> str:
    """The page, as Markdown."""
    return HEAD + "".join(map(_row, every_metric()))


def _row(metric: Described) -> str:
    labels = ", ".join(f"`{label}`" for label in metric.labels) or "–"
    cells = (f"`{metric.name}`", metric.kind, labels, metric.unit or "–", metric.meaning)
    return f"| {' | '.join(cells)} | {metric.where} |\n"


if __name__ == "__main__":
    (Path(sys.argv[1]) / "metrics.md").write_text(metrics_page(), encoding="utf-8")
