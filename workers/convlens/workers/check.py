"""Loads a network as a worker does, and sees what of it works: the first step with an own model."""

import gc
import logging
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from queue import Queue
from typing import final

import torch

from convlens.contract import ErrorReason, Failure
from convlens.contract.pools import POOLS, Pool
from convlens.internal.v1.job_pb2 import Job, Reply
from convlens.v1 import network_pb2
from convlens.workers.catalog import load_network
from convlens.workers.config import ConfigError, NetworkEntry, PoolConfig
from convlens.workers.jobs import Ticket
from convlens.workers.network import ServedNetwork
from convlens.workers.parity import in_figures
from convlens.workers.raised import in_words
from convlens.workers.trials import TRIALS, Bench, TrialError
from convlens.workers.usage import measured
from convlens.workers.worker import AnalysisWorker, InferenceWorker

# Nobody waits so long; it only keeps a method that hangs from hanging the check.
PATIENCE_SECONDS = 900.0


@dataclass(frozen=True)
class Step:
    """One thing that was tried; memory is at its peak, beyond what was taken before."""

    name: str
    ok: bool
    detail: str
    seconds: float
    memory_bytes: int


@dataclass
class Report:
    """What was tried with a network; `facts` are missing where it could not be loaded."""

    network: str
    builder: str
    # The number of the GPU whose memory is measured; None is the process's own.
    gpu: int | None = None
    facts: network_pb2.Network | None = None
    steps: list[Step] = field(default_factory=list[Step])

    @property
    def ok(self) -> bool:
        """Whether everything worked."""
        return all(step.ok for step in self.steps)


def check_network(entry: NetworkEntry) -> Report:
    """Everything that can be done with the network of an entry, once; never raises."""
    report = Report(entry.reference, entry.builder, _gpu_of(entry))
    loaded: list[ServedNetwork] = []

    def load() -> str:
        loaded.append(load_network(entry))
        report.facts = loaded[0].facts
        return _described(loaded[0].facts)

    _try(report, "load", load)
    for network in loaded:
        _try_pools(report, network)
    loaded.clear()
    gc.collect()
    return report


def _try_pools(report: Report, network: ServedNetwork) -> None:
    bench = Workers(network)
    try:
        # A pool that does not start must not hide what the other one can do.
        started = [
            pool
            for pool in POOLS
            if _try(report, f"start {pool}", lambda pool=pool: bench.start(pool))
        ]
        for trial in TRIALS:
            if trial.pool in started:
                _try(report, trial.name, lambda trial=trial: trial.run(bench))
    finally:
        bench.close()


def _try(report: Report, name: str, run: Callable[[], str]) -> bool:
    ok, detail = True, ""
    with measured(report.gpu) as usage:
        try:
            detail = run()
        except (ConfigError, Failure, TrialError) as error:
            ok, detail = False, str(error)
        except Exception as error:
            ok, detail = False, in_words(error)
    report.steps.append(Step(name, ok, detail, usage.seconds, usage.memory_bytes))
    return ok


def _gpu_of(entry: NetworkEntry) -> int | None:
    if entry.device == "cpu" or not torch.cuda.is_available():
        return None
    return int(entry.device.partition(":")[2] or 0)


def _described(facts: network_pb2.Network) -> str:
    size = facts.input
    text = (
        f"{facts.parameters:,} parameters, input {size.channels} x {size.height} x {size.width}, "
        f"{len(facts.labels)} classes"
    )
    return f"{text}; {in_figures(facts.parity)}" if facts.HasField("parity") else text


@final
class Workers(Bench):
    """The workers of both pools, as a server runs them."""

    def __init__(self, network: ServedNetwork) -> None:
        self._network = network
        self._pools: dict[Pool, InferenceWorker | AnalysisWorker] = {}

    @property
    def network(self) -> ServedNetwork:
        """The network that they share."""
        return self._network

    def start(self, pool: Pool) -> str:
        """Warms a pool up."""
        if pool == "inference":
            self._pools[pool] = InferenceWorker(self._network)
            return "it is warm"
        try:
            self._pools[pool] = AnalysisWorker(self._network, PoolConfig())
        except Exception as error:
            # What autograd says after its first sentence is for who writes the training loop.
            words = in_words(error).partition(". ")[0]
            raise TrialError(f"gradients do not work on this network: {words}") from None
        return "it is warm"

    def ask(self, pool: Pool, method: str, request: bytes) -> bytes:
        """Gives a job to a pool and waits for the answer."""
        replies: Queue[Reply] = Queue()
        now = time.monotonic()
        job = Job(request_id="check", method=method, request=request)
        ticket = Ticket(job, now, now + PATIENCE_SECONDS, lambda: False, replies.put)
        with _broken() as reasons:
            self._pools[pool].run([ticket])
            reply = replies.get(timeout=PATIENCE_SECONDS)
        if reasons:
            raise reasons[0]
        if not reply.HasField("error"):
            return reply.response
        raise Failure.from_status(reply.error) or Failure(
            ErrorReason.ERROR_REASON_INTERNAL, request_id="check"
        )

    def close(self) -> None:
        """Ends their threads."""
        for worker in self._pools.values():
            worker.close()


@contextmanager
def _broken() -> Generator[list[Exception]]:
    """What breaks jobs inside: to their callers they say nothing of it, and log it."""
    reasons: list[Exception] = []

    class Keeper(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            error = record.exc_info[1] if record.exc_info else None
            if isinstance(error, Exception):
                reasons.append(error)
            return not isinstance(error, Exception)

    log, keeper = logging.getLogger("convlens.workers.jobs"), Keeper()
    log.addFilter(keeper)
    try:
        yield reasons
    finally:
        log.removeFilter(keeper)
