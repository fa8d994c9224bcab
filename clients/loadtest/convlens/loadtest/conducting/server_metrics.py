"""Reads the server's metrics while the load lasts: how long its stages take, and its queues."""

import contextlib
import http.client
import math
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from prometheus_client.parser import text_string_to_metric_families

from convlens.loadtest.results.model import Server, Timed

STAGES = "convlens_stage_seconds"
BATCHES = "convlens_batch_images"
QUEUE = "convlens_queue_length"
# The order in which a request goes through them.
ORDER = ("admit", "queue", "decode", "compute", "encode")
PATIENCE = 3.0


class NoMetrics(Exception):
    """The server's metrics cannot be read; the text says why."""


@dataclass(slots=True)
class Buckets:
    """A histogram of Prometheus: cumulated counts by upper end."""

    total: float = 0.0
    counts: dict[float, float] = field(default_factory=dict[float, float])

    @property
    def count(self) -> float:
        """How many there are."""
        return self.counts.get(math.inf, 0.0)

    def since(self, before: "Buckets") -> "Buckets":
        """What came since then."""
        counts = {end: n - before.counts.get(end, 0.0) for end, n in self.counts.items()}
        return Buckets(self.total - before.total, counts)

    def percentile(self, percent: float) -> float:
        """Between the ends of its bucket, evenly; the largest end where it is beyond."""
        wanted, below, seen = self.count * percent / 100, 0.0, 0.0
        for end, count in sorted(self.counts.items()):
            if count >= wanted and count > seen:
                return (
                    below
                    if math.isinf(end)
                    else below + (end - below) * (wanted - seen) / (count - seen)
                )
            below, seen = end, count
        return below


@dataclass(slots=True)
class Look:
    """What the metrics said at a time."""

    at: float
    stages: dict[tuple[str, str], Buckets] = field(default_factory=dict[tuple[str, str], Buckets])
    batches: Buckets = field(default_factory=Buckets)
    queue: float = 0.0


class Metrics:
    """Looks at the metrics of all servers, again and again, in a thread."""

    def __init__(self, urls: Sequence[str], every: float) -> None:
        self.looks: list[Look] = []
        #: What went wrong last, where something did.
        self.trouble = ""
        self._urls, self._every = urls, every
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="metrics", daemon=True)

    def __enter__(self) -> "Metrics":
        if self._urls:
            self.looks.append(look(self._urls))
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._thread.is_alive():
            self._thread.join(PATIENCE)

    def now(self) -> None:
        """Looks once more."""
        if self._urls:
            try:
                self.looks.append(look(self._urls))
            except NoMetrics as error:
                self.trouble = str(error)

    def between(self, begin: float, end: float) -> Server | None:
        """What they say of a time of the monotonic clock; None where nobody looked."""
        before = max((n for n, each in enumerate(self.looks) if each.at <= begin), default=0)
        after = next((n for n, each in enumerate(self.looks) if each.at >= end), None)
        after = len(self.looks) - 1 if after is None else after
        if after <= before:
            return None
        first, last = self.looks[before], self.looks[after]
        queues = [each.queue for each in self.looks if begin <= each.at <= end]
        batches = last.batches.since(first.batches)
        return Server(
            stages=list(_timed(first.stages, last.stages)),
            batch_images=batches.total / batches.count if batches.count else None,
            queue_mean=sum(queues) / len(queues) if queues else None,
            queue_max=max(queues) if queues else None,
        )

    def queue_between(self, epoch: float) -> Callable[[float, float], float | None]:
        """What gives the mean length of the queues between two times since `epoch`."""

        def mean(begin: float, end: float) -> float | None:
            seen = [each.queue for each in self.looks if begin <= each.at - epoch < end]
            return sum(seen) / len(seen) if seen else None

        return mean

    def _run(self) -> None:
        while not self._over.wait(self._every):
            self.now()


def look(urls: Sequence[str]) -> Look:
    """The metrics of all servers together, now; NoMetrics where one cannot be read."""
    found = Look(time.monotonic())
    for url in urls:
        for name, labels, value in _samples(url):
            _add(found, name, labels, value)
    return found


def _add(found: Look, name: str, labels: Mapping[str, str], value: float) -> None:
    if name == QUEUE:
        found.queue += value
        return
    for base, buckets in (
        (STAGES, lambda: found.stages.setdefault((labels["pool"], labels["stage"]), Buckets())),
        (BATCHES, lambda: found.batches),
    ):
        if name == f"{base}_sum":
            buckets().total += value
        elif name == f"{base}_bucket":
            counts, end = buckets().counts, float(labels["le"])
            counts[end] = counts.get(end, 0.0) + value


def _timed(
    before: Mapping[tuple[str, str], Buckets], after: Mapping[tuple[str, str], Buckets]
) -> Iterator[Timed]:
    places = {stage: number for number, stage in enumerate(ORDER)}
    for pool, stage in sorted(after, key=lambda key: (key[0], places.get(key[1], 99))):
        spent = after[pool, stage].since(before.get((pool, stage), Buckets()))
        if spent.count > 0:
            yield Timed(
                pool=pool,
                stage=stage,
                count=round(spent.count),
                mean=spent.total / spent.count,
                p50=spent.percentile(50),
                p99=spent.percentile(99),
            )


def _samples(url: str) -> Iterator[tuple[str, Mapping[str, str], float]]:
    if not url.startswith(("http://", "https://")):
        raise NoMetrics(f"{url!r} is no address of metrics; write it as http://HOST:PORT/metrics.")
    # What runs on this machine or in the cluster is not behind the proxy of the environment.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with contextlib.closing(opener.open(url, timeout=PATIENCE)) as answer:
            text = answer.read().decode("utf-8")
        families = list(text_string_to_metric_families(text))
    except http.client.BadStatusLine as error:
        raise NoMetrics(f"The metrics at {url} cannot be read: it speaks no HTTP/1.") from error
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise NoMetrics(f"The metrics at {url} cannot be read: {reason}.") from error
    if not any(family.name.startswith("convlens_") for family in families):
        raise NoMetrics(f"{url} shows no metrics of a ConvLens server.")
    for family in families:
        for sample in family.samples:
            yield sample.name, sample.labels, sample.value
