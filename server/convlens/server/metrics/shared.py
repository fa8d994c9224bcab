"""The metrics of several processes, shown as those of one server.

Counters and histograms are in prometheus_client's files, which outlive their processes, so nothing
that was counted is lost with one. Gauges are of now: each process writes its own, and only those of
live processes are read.
"""

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from threading import Lock
from typing import Any

from prometheus_client import Metric
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from convlens.server.metrics.gauge import Gauge, family

# prometheus_client looks for it when it is imported.
VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
# A file of values; it comes without types.
VALUES: Any = MmapedDict
# Stands for all processes that ended.
ENDED = "ended"


def write_gauges(folder: Path, gauges: Iterable[Gauge]) -> None:
    """Writes what the gauges of this process show now, for its parent to read."""
    told = [
        {
            "name": gauge.name,
            "meaning": gauge.meaning,
            "labels": gauge.labels,
            "across": gauge.across,
            "values": [*gauge.values().items()],
        }
        for gauge in gauges
    ]
    file = _gauges_of(folder, os.getpid())
    fresh = file.with_suffix(".new")
    fresh.write_text(json.dumps(told))
    fresh.replace(file)


class SharedMetrics(Collector):
    """What the processes that write to `folder` show together; `live` are those that run."""

    def __init__(self, folder: Path, live: Callable[[], Iterable[int]]) -> None:
        self._folder = folder
        self._live = live
        self._counted: Any = MultiProcessCollector(None, str(folder))
        # What a process counted must not be seen twice while it is moved.
        self._moving = Lock()

    def describe(self) -> Iterable[Metric]:
        """Nothing: the names are those of other processes."""
        return []

    def collect(self) -> Iterable[Metric]:
        """Counters and histograms of all processes that ever were, and gauges of those that run."""
        with self._moving:
            counted = self._counted.collect()
        return [*counted, *self._gauges()]

    def forget(self, pid: int) -> None:
        """Moves what an ended process counted to that of all the others, and drops its gauges.

        So the files are as few as the processes, however often these are started again.
        """
        with self._moving:
            for kind in ("counter", "histogram"):
                _move(self._folder / f"{kind}_{pid}.db", self._folder / f"{kind}_{ENDED}.db")
        _gauges_of(self._folder, pid).unlink(missing_ok=True)

    def _gauges(self) -> Iterable[Metric]:
        found: dict[str, dict[str, Any]] = {}
        for pid in self._live():
            for told in _read(_gauges_of(self._folder, pid)):
                values = found.setdefault(told["name"], {**told, "values": {}})["values"]
                for labels, value in told["values"]:
                    key = tuple(labels)
                    both = (values[key], value) if key in values else (value,)
                    values[key] = sum(both) if told["across"] == "sum" else max(both)
        for each in found.values():
            yield family(each["name"], each["meaning"], each["labels"], each["values"])


def _gauges_of(folder: Path, pid: int) -> Path:
    return folder / f"gauges_{pid}.json"


def _read(file: Path) -> list[dict[str, Any]]:
    """The gauges of a process; none where it has not written yet, or has just ended."""
    try:
        return json.loads(file.read_text())
    except FileNotFoundError:
        return []


def _move(one: Path, total: Path) -> None:
    """Adds the values of a file to those of another, and removes it."""
    if not one.exists():
        return
    # A process that was killed as it opened its file left it empty.
    if one.stat().st_size:
        sums = VALUES(str(total))
        for key, value, _, _ in VALUES.read_all_values_from_file(str(one)):
            sums.write_value(key, sums.read_value(key)[0] + value, 0.0)
        sums.close()
    one.unlink()
