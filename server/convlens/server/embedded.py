"""The embedded engine: workers as threads of the server's own process."""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, Full, Queue
from threading import Lock, Thread
from typing import TYPE_CHECKING

import structlog

from convlens.contract import ErrorReason, Failure
from convlens.contract.pools import Pool
from convlens.internal.v1.job_pb2 import Job, Reply
from convlens.server.engine import (
    RETRY_SECONDS,
    Engine,
    EngineError,
    allow_list,
    not_loadable,
    unavailable,
)
from convlens.server.metrics import Metrics
from convlens.v1.network_pb2 import Network

if TYPE_CHECKING:
    from convlens.workers.config import Config, NetworkEntry, PoolConfig
    from convlens.workers.jobs import Ticket
    from convlens.workers.worker import AnalysisWorker, InferenceWorker

    Worker = InferenceWorker | AnalysisWorker


log = structlog.get_logger()

# For the pass under way, once nobody waits for it any more.
CLOSE_SECONDS = 5.0


@dataclass(frozen=True)
class Waiting:
    """A job in the queue."""

    job: Job
    arrived: float
    future: Future[Reply]


class PoolThread:
    """A bounded queue and one thread that hands whatever waits to the worker, as one batch."""

    def __init__(self, name: str, settings: "PoolConfig", worker: "Worker") -> None:
        self.name = name
        self._settings = settings
        self._worker = worker
        self._queue: Queue[Waiting | None] = Queue(settings.queue_size)
        self._lock = Lock()
        self._bytes = 0
        self._thread = Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def __len__(self) -> int:
        return self._queue.qsize()

    def submit(self, job: Job) -> Future[Reply]:
        """Queues a job; raises Failure QUEUE_FULL where there is no place."""
        entry, size = Waiting(job, time.monotonic(), Future()), len(job.request)
        try:
            if self._bytes and self._bytes + size > self._settings.queue_bytes:
                raise Full
            self._queue.put_nowait(entry)
        except Full:
            raise Failure(
                ErrorReason.ERROR_REASON_QUEUE_FULL, retry_after=RETRY_SECONDS, pool=self.name
            ) from None
        self._hold(size)
        entry.future.add_done_callback(lambda _: self._release(job, size))
        return entry.future

    def _hold(self, size: int) -> None:
        with self._lock:
            self._bytes += size

    def _release(self, job: Job, size: int) -> None:
        """Gives the bytes back of a job that is answered, or whose caller left while it waited."""
        job.ClearField("request")
        self._hold(-size)

    def close(self, seconds: float) -> None:
        """Lets the worker finish what waits, and ends it; gives up on it after `seconds`."""
        self._queue.put(None)
        self._thread.join(seconds)
        self._worker.close()

    def _work(self) -> None:
        while batch := self._take():
            self._worker.run([_ticket(entry) for entry in batch])

    def _take(self) -> list[Waiting]:
        """Waits for a job and takes what waits beside it; nothing once the pool is closed."""
        batch: list[Waiting] = []
        entry = self._queue.get()
        while entry is not None:
            batch.append(entry)
            if len(batch) == self._settings.max_batch:
                return batch
            try:
                entry = self._queue.get_nowait()
            except Empty:
                return batch
        if batch:
            # The end mark came behind the last jobs: put it back for the next look.
            self._queue.put(None)
        return batch


def _ticket(entry: Waiting) -> "Ticket":
    from convlens.workers.jobs import Ticket

    def reply(answer: Reply) -> None:
        if entry.future.set_running_or_notify_cancel():
            entry.future.set_result(answer)

    deadline = entry.arrived + entry.job.remaining_us / 1e6
    return Ticket(entry.job, entry.arrived, deadline, entry.future.cancelled, reply)


@dataclass(frozen=True)
class Served:
    """A network in this process, with its pools."""

    facts: Network
    pools: dict[Pool, PoolThread]


class EmbeddedEngine(Engine):
    """Serves networks from this process: for laptops, tests and demos."""

    def __init__(self, file: Path | None, device: str, metrics: Metrics) -> None:
        self._file = file
        self._device = device
        self._metrics = metrics
        self._served: dict[str, Served] = {}
        # Two loads of one entry at a time would leave the threads of one behind.
        self._changing = asyncio.Lock()

    async def start(self) -> None:
        """Loads the networks, in a thread, since torch alone takes seconds."""
        try:
            await asyncio.to_thread(self._load_all)
        except ModuleNotFoundError as error:
            raise EngineError(
                f"the embedded engine needs the package {error.name}: "
                'pip install "convlens-server[embedded]"'
            ) from None

    def _load_all(self) -> None:
        from convlens.workers.config import ConfigError, load_config

        try:
            self._config: Config = load_config(self._file)
        except ConfigError as error:
            raise EngineError(str(error)) from None
        mistakes: list[str] = []
        for entry in self._config.networks:
            try:
                self._serve(entry)
            except ConfigError as error:
                mistakes.append(str(error))
            except (OSError, RuntimeError) as error:
                # torch's words, such as for memory that is used up.
                mistakes.append(f"{entry.reference} cannot be loaded: {error}")
        if mistakes:
            raise EngineError("\n".join(mistakes))

    def _serve(self, entry: "NetworkEntry") -> None:
        from convlens.workers.catalog import load_network
        from convlens.workers.worker import AnalysisWorker, InferenceWorker

        network = load_network(entry, self._device)
        name, pools = entry.reference, self._config.pools
        threads: dict[Pool, PoolThread] = {
            "inference": PoolThread(f"{name}-inference", pools.inference, InferenceWorker(network)),
            "analysis": PoolThread(
                f"{name}-analysis", pools.analysis, AnalysisWorker(network, pools.analysis.budget)
            ),
        }
        for pool, thread in threads.items():
            self._metrics.watch_queue(name, pool, thread.__len__)
        self._served[name] = Served(network.facts, threads)

    async def stop(self) -> None:
        """Answers what waits, then ends the threads."""
        for served in self._served.values():
            await _close(served)

    def networks(self) -> Sequence[Network]:
        """In the order in which they were loaded."""
        return [served.facts for served in self._served.values()]

    def can_answer(self, pool: Pool) -> bool:
        """A thread of this process does not die alone."""
        return bool(self._served)

    async def call(self, network: Network, job: Job) -> Reply:
        """Runs a job in the network's inference pool."""
        return await asyncio.wrap_future(self._submit(network, "inference", job))

    async def stream(self, network: Network, job: Job) -> AsyncGenerator[Reply, None]:
        """Runs a job in the network's analysis pool."""
        yield await asyncio.wrap_future(self._submit(network, "analysis", job))

    def _submit(self, network: Network, pool: Pool, job: Job) -> Future[Reply]:
        served = self._served.get(f"{network.name}@{network.version}")
        if served is None:
            raise unavailable(network, "it was unloaded")
        return served.pools[pool].submit(job)

    async def load(self, name: str, version: str, traffic_weight: float | None) -> Network:
        """Loads an entry of the allow list of networks.yaml."""
        entry = self._entry(name, version)
        async with self._changing:
            if entry.reference not in self._served:
                await self._load(entry)
        facts = self._served[entry.reference].facts
        facts.traffic_weight = entry.traffic_weight if traffic_weight is None else traffic_weight
        return facts

    async def _load(self, entry: "NetworkEntry") -> None:
        try:
            await asyncio.to_thread(self._serve, entry)
        except Exception as error:
            # Whatever is wrong with the file of its weights.
            log.exception("network not loaded", network=entry.reference)
            raise not_loadable(entry.name, entry.version, f"it fails to load: {error}") from error

    async def unload(self, name: str, version: str) -> None:
        """Answers what waits in the network's pools, and ends them."""
        entry = self._entry(name, version)
        async with self._changing:
            if served := self._served.pop(entry.reference, None):
                for pool in served.pools:
                    self._metrics.forget_queue(entry.reference, pool)
                await _close(served)

    def _entry(self, name: str, version: str) -> "NetworkEntry":
        for entry in self._config.loadable:
            if (entry.name, entry.version) == (name, version):
                return entry
        known = [entry.reference for entry in self._config.loadable]
        raise not_loadable(name, version, allow_list(known))


async def _close(served: Served) -> None:
    for pool in served.pools.values():
        await asyncio.to_thread(pool.close, CLOSE_SECONDS)
