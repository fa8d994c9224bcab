"""What the Triton engine counts, beside the metrics of its server."""

from convlens.contract.pools import network_of
from convlens.internal.v1.job_pb2 import Vitals
from convlens.server.metrics.gauge import Gauge, Reading
from convlens.server.metrics.metrics import Metrics


class TritonMetrics:
    """Jobs, workers and connections of the Tritons; `triton` is the address of one."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._expected: set[str] = set()
        registry = metrics.registry
        registry.where = "triton, triton-local"
        self.retries = registry.counter(
            "convlens_triton_retries",
            "Jobs tried once more: at another Triton, or at the same one after its healing.",
            "jobs",
            "place",
        )
        for place in ("same", "another"):
            self.retries.labels(place)
        self.dead_workers = registry.counter(
            "convlens_triton_dead_worker_reports",
            "Calls that met a dead worker.",
            "calls",
            "model",
        )
        self.healings = registry.counter(
            "convlens_triton_healings",
            "Restarts of workers that had died or could not compute any more, by their outcome: "
            "healed or failed.",
            "restarts",
            *("model", "outcome"),
        )
        self.canaries = registry.counter(
            "convlens_triton_canaries",
            "Pools that were asked whether they can compute, since they had answered nobody for a "
            "while: ok, failed, or unanswered.",
            "canaries",
            *("model", "outcome"),
        )
        self.outstanding = registry.gauge(
            "convlens_triton_outstanding_jobs",
            "Jobs that were sent to a Triton and are not answered yet.",
            "jobs",
            "triton",
        )
        self.reachable = registry.gauge(
            "convlens_triton_reachable",
            "1 while a Triton answers, else 0; one whose address is gone is not shown.",
            "",
            "triton",
            across="max",
        )
        self.worker_memory = registry.gauge(
            "convlens_triton_worker_memory_bytes",
            "Resident memory of a worker, when it last answered.",
            "bytes",
            *("model", "triton"),
            across="max",
        )
        self.clock_offset = registry.gauge(
            "convlens_triton_clock_offset_seconds",
            "How far a worker's monotonic clock is ahead of the server's, the fastest way of a job "
            "included. On one machine that way alone; what it changes by is drift.",
            "seconds",
            *("model", "triton"),
            across="max",
        )

    def watch_triton(self, triton: str, jobs: Reading, reachable: Reading) -> None:
        """Reads the number of jobs on their way, and whether it answers, whenever one looks."""
        self.outstanding.watch(jobs, triton)
        self.reachable.watch(reachable, triton)

    def note_vitals(self, model: str, triton: str, vitals: Vitals) -> None:
        """What a worker says of itself."""
        known = network_of(model)
        if known is None:
            return
        self._expect(model)
        name, version, pool = known
        worker = f"{name}@{version}", pool, triton
        self._metrics.queued.set(vitals.queued, *worker)
        self._metrics.queue_age.set(vitals.oldest_us / 1e6, *worker)
        self._metrics.device_memory.set(vitals.device_bytes, *worker)
        self.worker_memory.set(vitals.process_bytes, model, triton)
        self.clock_offset.set(vitals.clock_offset_us / 1e6, model, triton)

    def _expect(self, model: str) -> None:
        """Counts from 0 what may happen to it: Prometheus does not see the first of a series."""
        if model in self._expected:
            return
        self._expected.add(model)
        self.dead_workers.labels(model)
        for outcome in ("healed", "failed"):
            self.healings.labels(model, outcome)
        for outcome in ("ok", "failed", "unanswered"):
            self.canaries.labels(model, outcome)

    def forget_model(self, model: str, triton: str) -> None:
        """Shows no more of a worker that was unloaded."""
        if known := network_of(model):
            name, version, pool = known
            for gauge in self._of_workers():
                gauge.forget(network=f"{name}@{version}", pool=pool, triton=triton)
        self.worker_memory.forget(model=model, triton=triton)
        self.clock_offset.forget(model=model, triton=triton)

    def forget_triton(self, triton: str) -> None:
        """Shows no more of a Triton that is gone, and holds on to nothing behind it."""
        own = (self.outstanding, self.reachable, self.worker_memory, self.clock_offset)
        for gauge in (*own, *self._of_workers()):
            gauge.forget(triton=triton)

    def _of_workers(self) -> "tuple[Gauge, ...]":
        metrics = self._metrics
        return metrics.queued, metrics.queue_age, metrics.device_memory
