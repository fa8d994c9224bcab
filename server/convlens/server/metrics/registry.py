"""A registry that knows what its metrics mean, so that their page is written from it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics

from convlens.server.metrics.gauge import Across, Gauge

M = TypeVar("M", Counter, Histogram)

# One more series for each that there is, of which Prometheus knows the beginning anyway.
disable_created_metrics()


@dataclass(frozen=True)
class Described:
    """A metric in words: its name as Prometheus shows it, and where there is one."""

    name: str
    kind: str
    labels: tuple[str, ...]
    unit: str
    meaning: str
    where: str


class Family(Generic[M]):
    """A metric by its labels. Finding that of known labels takes no lock and no new object."""

    def __init__(self, metric: M) -> None:
        self._metric: M = metric
        self._known: dict[tuple[str, ...], M] = {}

    def labels(self, *values: str) -> M:
        """The metric of these labels."""
        known = self._known.get(values)
        if known is None:
            known = self._known[values] = self._metric.labels(*values)
        return known


class Registry(CollectorRegistry):
    """Declares metrics. `where` says of all that follow which servers have them."""

    def __init__(self) -> None:
        super().__init__()
        self.described: list[Described] = []
        self.gauges: list[Gauge] = []
        self.where = "all"

    def counter(self, name: str, meaning: str, unit: str, *labels: str) -> Family[Counter]:
        """A number that only grows."""
        self._describe(f"{name}_total", "counter", labels, unit, meaning)
        return Family(Counter(name, meaning, labels, registry=self))

    def count(self, name: str, meaning: str, unit: str) -> Counter:
        """Likewise, without labels."""
        self._describe(f"{name}_total", "counter", (), unit, meaning)
        return Counter(name, meaning, registry=self)

    def histogram(
        self, name: str, meaning: str, unit: str, buckets: Sequence[float], *labels: str
    ) -> Family[Histogram]:
        """How often values were how large."""
        self._describe(name, "histogram", labels, unit, meaning)
        return Family(Histogram(name, meaning, labels, buckets=buckets, registry=self))

    def distribution(
        self, name: str, meaning: str, unit: str, buckets: Sequence[float]
    ) -> Histogram:
        """Likewise, without labels."""
        self._describe(name, "histogram", (), unit, meaning)
        return Histogram(name, meaning, buckets=buckets, registry=self)

    def gauge(
        self, name: str, meaning: str, unit: str, *labels: str, across: Across = "sum"
    ) -> Gauge:
        """A number of now; `across` says what several processes of one server show together."""
        self._describe(name, "gauge", labels, unit, meaning)
        gauge = Gauge(name, meaning, labels, across)
        self.gauges.append(gauge)
        self.register(gauge)
        return gauge

    def _describe(
        self, name: str, kind: str, labels: tuple[str, ...], unit: str, meaning: str
    ) -> None:
        self.described.append(Described(name, kind, labels, unit, meaning, self.where))
