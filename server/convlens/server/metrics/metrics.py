"""The metrics of a server, whatever its engine."""

import os
from pathlib import Path

from convlens.contract.pools import POOLS, Pool
from convlens.internal.v1.job_pb2 import Stages
from convlens.server import __version__
from convlens.server.facts import Facts
from convlens.server.metrics.gauge import Reading
from convlens.server.metrics.registry import Registry

SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)
IMAGES = (1, 2, 4, 8, 16, 32, 64)
STATM = Path("/proc/self/statm")


class Metrics:
    """The metrics of one server, in a registry of their own.

    Labels have values of the contract and of the served networks alone, never of what a caller
    sends: a `network` is "name@version", and a `method` as its message names it.
    """

    def __init__(self) -> None:
        self.registry = registry = Registry()
        self._calls(registry)
        self._work(registry)
        self._state(registry)

    def _calls(self, registry: Registry) -> None:
        asked = ("rpc", "network", "method")
        self.requests = registry.counter(
            "convlens_requests",
            "Calls ended, by gRPC code and reason of the catalogue, both of refused ones too; "
            "`method` is `several` where a call asks for more than one.",
            "calls",
            *(*asked, "code", "reason"),
        )
        self.stream_requests = registry.counter(
            "convlens_stream_requests",
            "Requests of streams answered, by gRPC code and reason of the catalogue.",
            "requests",
            *("rpc", "network", "code", "reason"),
        )
        self.seconds = registry.histogram(
            "convlens_request_seconds",
            "From the arrival of a call to its end.",
            "seconds",
            SECONDS,
            *asked,
        )
        self.methods = registry.counter(
            "convlens_methods",
            "Explanations, attacks and syntheses that calls asked for, each by itself.",
            "methods",
            *("rpc", "method"),
        )
        self.active = registry.gauge("convlens_active_calls", "Calls under way.", "calls", "rpc")

    def _work(self, registry: Registry) -> None:
        self.stages = registry.histogram(
            "convlens_stage_seconds",
            "Of an answered job in a stage: admit (from its arrival until the engine has it), "
            "queue, decode, compute, encode.",
            "seconds",
            SECONDS,
            *("stage", "pool"),
        )
        self.batch = registry.distribution(
            "convlens_batch_images",
            "Images in the largest forward pass that a job took part in.",
            "images",
            IMAGES,
        )
        self.passes = registry.count(
            "convlens_analysis_passes",
            "Parts of passes that methods asked for, each computed in one micro-batch.",
            "passes",
        )
        self.micro_batches = registry.count(
            "convlens_analysis_micro_batches",
            "Micro-batches in which they were computed; the fewer, the more was shared.",
            "micro-batches",
        )
        self.rows = registry.count(
            "convlens_analysis_rows", "Rows of micro-batches that methods asked for.", "rows"
        )
        self.padded_rows = registry.count(
            "convlens_analysis_padded_rows",
            "Rows that filled micro-batches up to their shape, and that nobody asked for.",
            "rows",
        )
        self.cache = registry.counter(
            "convlens_cache_lookups",
            "Answers looked for among those that are kept, by outcome: hit, miss, or shared with "
            "one that was being computed.",
            "lookups",
            "outcome",
        )
        for outcome in ("hit", "miss", "shared"):
            self.cache.labels(outcome)

    def _state(self, registry: Registry) -> None:
        worker = ("network", "pool", "triton")
        # Every process of a server sees the same workers.
        self.queued = registry.gauge(
            "convlens_queue_length", "Jobs that wait in a pool.", "jobs", *worker, across="max"
        )
        self.queue_age = registry.gauge(
            "convlens_queue_age_seconds",
            "How long the first job of a pool's queue has waited; 0 where none waits.",
            "seconds",
            *worker,
            across="max",
        )
        self.device_memory = registry.gauge(
            "convlens_device_memory_bytes",
            "Of its GPU that a worker holds; 0 on a CPU. Embedded workers share a process, and are "
            "one sample without these labels.",
            "bytes",
            *worker,
            across="max",
        )
        self.cost = registry.gauge(
            "convlens_inflight_cost",
            "Of admitted jobs that are not answered yet, as the contract weighs them.",
            "passes",
            "pool",
        )
        for pool in POOLS:
            self.cost.set(0.0, pool)
        self.cache_bytes = registry.gauge("convlens_cache_bytes", "Answers that are kept.", "bytes")
        self.cache_bytes.set(0.0)
        self.stale = registry.gauge(
            "convlens_stale_files",
            "1 while the files of a setting (tokens, tls_certificate) were changed and cannot be "
            "used, and what they said before stays in force.",
            "",
            "setting",
            across="max",
        )
        for setting in ("tokens", "tls_certificate"):
            self.stale.set(0.0, setting)
        self.expiry = registry.gauge(
            "convlens_certificate_expiry_timestamp_seconds",
            "When the first certificate in the file of a setting (tls_certificate, tls_client_ca) "
            "expires, in seconds since 1970.",
            "seconds",
            "setting",
            across="max",
        )
        self.ready = registry.gauge(
            "convlens_pool_ready",
            "1 while a pool can answer, else 0.",
            "",
            "pool",
            across="max",
        )
        self.memory = registry.gauge(
            "convlens_process_memory_bytes", "Resident memory of the server itself.", "bytes"
        )
        self.memory.watch(resident_bytes)
        registry.gauge(
            "convlens_build", "Always 1; the version is a label.", "", "version", across="max"
        ).set(1, __version__)

    def watch_queue(self, network: str, pool: str, length: Reading, age: Reading) -> None:
        """Reads a queue's length, and the seconds its first job has waited, whenever one looks."""
        self.queued.watch(length, network, pool, "")
        self.queue_age.watch(age, network, pool, "")

    def forget_queue(self, network: str, pool: str) -> None:
        """Shows no more of a queue that is closed, and holds on to nothing behind it."""
        self.queued.forget(network=network, pool=pool)
        self.queue_age.forget(network=network, pool=pool)

    def watch_cost(self, pool: Pool, cost: Reading) -> None:
        """Reads the cost of a pool's jobs that are admitted and not answered whenever one looks."""
        self.cost.watch(cost, pool)

    def count_lookup(self, outcome: str) -> None:
        """Notes what looking for an answer came to: hit, miss or shared."""
        self.cache.labels(outcome).inc()

    def record_call(self, rpc: str, facts: Facts, code: str, reason: str, seconds: float) -> None:
        """Notes how a call ended, and what it had asked for."""
        asked = rpc, facts.network, facts.method
        self.requests.labels(*asked, code, reason).inc()
        self.seconds.labels(*asked).observe(seconds)
        for method in facts.methods:
            self.methods.labels(rpc, method).inc()

    def record_stages(self, stages: Stages, pool: Pool, admit_seconds: float) -> None:
        """Notes where the time of a job went."""
        observe = self.stages.labels
        observe("admit", pool).observe(admit_seconds)
        observe("queue", pool).observe(stages.wait_us / 1e6)
        observe("decode", pool).observe(stages.decode_us / 1e6)
        observe("compute", pool).observe(stages.compute_us / 1e6)
        observe("encode", pool).observe(stages.encode_us / 1e6)
        if pool == "inference":
            self.batch.observe(stages.batch_images)
            return
        self.passes.inc(stages.passes)
        self.micro_batches.inc(stages.micro_batches)
        self.rows.inc(stages.rows)
        self.padded_rows.inc(stages.padded_rows)


def resident_bytes() -> float:
    """Resident memory of this process; 0 where /proc does not say."""
    try:
        return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0.0
