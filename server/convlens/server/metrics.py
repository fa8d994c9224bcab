"""Every Prometheus metric of the server, and the port that shows them."""

from collections.abc import Callable
from threading import Thread
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from convlens.internal.v1.job_pb2 import Stages
from convlens.server import __version__
from convlens.server.settings import Address

SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)
IMAGES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """The metrics of one server, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "convlens_requests",
            "Calls ended, by gRPC code and reason of the catalogue.",
            ["rpc", "code", "reason"],
            registry=self.registry,
        )
        self.stream_requests = Counter(
            "convlens_stream_requests",
            "Requests of streams answered, by gRPC code and reason of the catalogue.",
            ["rpc", "code", "reason"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "convlens_request_seconds",
            "Seconds from the arrival of a call to its end.",
            ["rpc"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self.active = Gauge(
            "convlens_active_calls", "Calls under way.", ["rpc"], registry=self.registry
        )
        self.stages = Histogram(
            "convlens_stage_seconds",
            "Seconds of a job in a stage: queue, decode, compute, encode.",
            ["stage"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self.batch = Histogram(
            "convlens_batch_images",
            "Images in the largest forward pass that a job took part in.",
            buckets=IMAGES,
            registry=self.registry,
        )
        self.passes = Counter(
            "convlens_analysis_passes",
            "Parts of passes that methods asked for, each computed in one micro-batch.",
            registry=self.registry,
        )
        self.micro_batches = Counter(
            "convlens_analysis_micro_batches",
            "Micro-batches in which they were computed; the fewer, the more was shared.",
            registry=self.registry,
        )
        self.queued = Gauge(
            "convlens_queue_length",
            "Requests that wait in a pool.",
            ["network", "pool"],
            registry=self.registry,
        )
        self.cached = Counter(
            "convlens_cache_requests",
            "Requests to the cache of answers: hit, miss, or shared with one under way.",
            ["outcome"],
            registry=self.registry,
        )
        build = Gauge(
            "convlens_build",
            "Always 1; the version is a label.",
            ["version"],
            registry=self.registry,
        )
        build.labels(__version__).set(1)

    def count_cached(self, outcome: str) -> None:
        """Notes what the cache did for a request: hit, miss, or shared with one under way."""
        self.cached.labels(outcome).inc()

    def watch_queue(self, network: str, pool: str, length: Callable[[], int]) -> None:
        """Reads the length of a queue whenever somebody looks."""
        self.queued.labels(network, pool).set_function(length)

    def forget_queue(self, network: str, pool: str) -> None:
        """Shows no more of a queue that is closed, and holds on to nothing behind it."""
        self.queued.remove(network, pool)

    def record_stages(self, stages: Stages) -> None:
        """Notes where the time of a job went."""
        self.stages.labels("queue").observe(stages.wait_us / 1e6)
        self.stages.labels("decode").observe(stages.decode_us / 1e6)
        self.stages.labels("compute").observe(stages.compute_us / 1e6)
        self.stages.labels("encode").observe(stages.encode_us / 1e6)
        self.batch.observe(stages.batch_images)
        self.passes.inc(stages.passes)
        self.micro_batches.inc(stages.micro_batches)


class TritonMetrics:
    """What the Triton engine counts, beside the metrics of its server."""

    def __init__(self, metrics: Metrics) -> None:
        self.retries = Counter(
            "convlens_triton_retries",
            "Jobs tried once more: at another Triton, or at the same one after its healing.",
            ["place"],
            registry=metrics.registry,
        )
        self.dead_workers = Counter(
            "convlens_triton_dead_worker_reports",
            "Calls that met a dead worker.",
            ["model"],
            registry=metrics.registry,
        )
        self.healings = Counter(
            "convlens_triton_healings",
            "Loads of a model whose worker had died, by their outcome: healed or failed.",
            ["model", "outcome"],
            registry=metrics.registry,
        )


class MetricsPort:
    """Shows a registry at http://host:port/metrics until closed."""

    def __init__(self, metrics: Metrics, address: Address) -> None:
        self._server: WSGIServer
        self._thread: Thread
        self._server, self._thread = start_http_server(
            address.port, address.host, registry=metrics.registry
        )
        self.address = Address(host=address.host, port=self._server.server_port)

    def close(self) -> None:
        """Stops answering."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
