"""A gauge that reads what it shows when somebody looks."""

from collections.abc import Callable, Iterable, Sequence
from typing import Literal, TypeAlias

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

Reading: TypeAlias = Callable[[], float]
# What several server processes show together.
Across: TypeAlias = Literal["sum", "max"]


class Gauge(Collector):
    """Values by labels: counted up and down, set, or read from functions.

    prometheus_client's own knows no functions where several processes share their metrics. It is
    changed on the server's event loop alone, and may be read in any thread.
    """

    def __init__(self, name: str, meaning: str, labels: Sequence[str], across: Across) -> None:
        self.name = name
        self.meaning = meaning
        self.labels = tuple(labels)
        self.across: Across = across
        self._values: dict[tuple[str, ...], float] = {}
        self._readings: dict[tuple[str, ...], Reading] = {}

    def add(self, amount: float, *labels: str) -> None:
        """Counts up, or down."""
        self._values[labels] = self._values.get(labels, 0.0) + amount

    def set(self, value: float, *labels: str) -> None:
        """Shows this value until another is set."""
        self._values[labels] = value

    def watch(self, reading: Reading, *labels: str) -> None:
        """Reads a value whenever somebody looks."""
        self._readings[labels] = reading

    def forget(self, **labels: str) -> None:
        """Shows no more of what has these labels, and holds on to nothing behind it."""
        wanted = [(self.labels.index(label), value) for label, value in labels.items()]
        for known in (self._values, self._readings):
            for key in [key for key in known if all(key[at] == value for at, value in wanted)]:
                del known[key]

    def values(self) -> dict[tuple[str, ...], float]:
        """What it shows now."""
        read = {labels: float(reading()) for labels, reading in self._readings.copy().items()}
        return {**self._values, **read}

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """Its name and meaning, without reading anything."""
        return [GaugeMetricFamily(self.name, self.meaning, labels=self.labels)]

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """Its values, as Prometheus wants them."""
        return [family(self.name, self.meaning, self.labels, self.values())]


def family(
    name: str, meaning: str, labels: Sequence[str], values: dict[tuple[str, ...], float]
) -> GaugeMetricFamily:
    """Values by labels, as Prometheus wants them."""
    found = GaugeMetricFamily(name, meaning, labels=labels)
    for key, value in values.items():
        found.add_metric(key, value)
    return found
