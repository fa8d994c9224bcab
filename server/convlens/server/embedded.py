"""The embedded engine: workers as threads of the server's own process."""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from queue import Empty, Full, Queue
from threading import Thread
from typing import TYPE_CHECKING

from convlens.contract import ErrorReason, Failure
from convlens.internal.v1.job_pb2 import Job, Reply
from convlens.server.engine import Engine, EngineError
from convlens.server.metrics import Metrics
from convlens.v1.network_pb2 import Network

if TYPE_CHECKING:
    from convlens.workers.jobs import Ticket
    from convlens.workers.worker import Worker

# Jobs handed to a worker at a time; it looks at each caller's deadline again before every pass.
BATCH_JOBS = 64
RETRY_SECONDS = 0.25


@dataclass(frozen=True)
class Waiting:
    """A job in the queue."""

    job: Job
    arrived: float
    future: Future[Reply]


class Pool:
    """A bounded queue and one thread that hands whatever waits to `run`, as one batch."""

    def __init__(self, name: str, limit: int, run: "Callable[[Iterable[Ticket]], None]") -> None:
        self.name = name
        self._limit = limit
        self._run = run
        self._queue: Queue[Waiting | None] = Queue(limit)
        self._thread = Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def __len__(self) -> int:
        return self._queue.qsize()

    def submit(self, job: Job) -> Future[Reply]:
        """Queues a job; raises Failure QUEUE_FULL where there is no place."""
        entry = Waiting(job, time.monotonic(), Future())
        try:
            self._queue.put_nowait(entry)
        except Full:
            raise Failure(
                ErrorReason.ERROR_REASON_QUEUE_FULL,
                retry_after=RETRY_SECONDS,
                pool=self.name,
                limit=self._limit,
            ) from None
        return entry.future

    def close(self) -> None:
        """Lets the thread finish what waits, and waits for it."""
        self._queue.put(None)
        self._thread.join()

    def _work(self) -> None:
        while batch := self._take():
            self._run([_ticket(entry) for entry in batch])

    def _take(self) -> list[Waiting]:
        """Waits for a job and takes what waits beside it; nothing once the pool is closed."""
        batch: list[Waiting] = []
        entry = self._queue.get()
        while entry is not None:
            batch.append(entry)
            if len(batch) == BATCH_JOBS:
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

    started = time.monotonic()

    def reply(answer: Reply) -> None:
        answer.stages.wait_us = round((started - entry.arrived) * 1e6)
        if entry.future.set_running_or_notify_cancel():
            entry.future.set_result(answer)

    deadline = entry.arrived + entry.job.remaining_us / 1e6
    return Ticket(entry.job, deadline, entry.future.cancelled, reply)


class EmbeddedEngine(Engine):
    """Serves bundled networks from this process: for laptops, tests and demos."""

    def __init__(
        self, names: Sequence[str], device: str, queue_limit: int, metrics: Metrics
    ) -> None:
        self._names = names
        self._device = device
        self._queue_limit = queue_limit
        self._metrics = metrics
        self._workers: dict[str, Worker] = {}
        self._pools: dict[str, Pool] = {}

    async def start(self) -> None:
        """Loads the networks, in threads, since torch alone takes seconds."""
        try:
            await asyncio.to_thread(self._load)
        except ModuleNotFoundError as error:
            raise EngineError(
                f"the embedded engine needs the package {error.name}: "
                'pip install "convlens-server[embedded]"'
            ) from None

    def _load(self) -> None:
        from convlens.workers.worker import Worker, bundled_networks

        if unknown := set(self._names) - set(bundled_networks()):
            raise EngineError(
                f"no bundled network {', '.join(sorted(unknown))}; "
                f"there are: {', '.join(bundled_networks())}"
            )
        for name in self._names:
            worker = self._workers[name] = Worker(name, self._device)
            pool = self._pools[name] = Pool(f"{name}-inference", self._queue_limit, worker.infer)
            self._metrics.watch_queue(name, "inference", pool.__len__)

    async def stop(self) -> None:
        """Answers what waits, then ends the threads."""
        for pool in self._pools.values():
            await asyncio.to_thread(pool.close)
        for worker in self._workers.values():
            await asyncio.to_thread(worker.close)

    def networks(self) -> list[Network]:
        """In the order of the settings."""
        return [worker.describe() for worker in self._workers.values()]

    async def call(self, network: Network, job: Job) -> Reply:
        """Runs a job in the network's inference pool."""
        return await asyncio.wrap_future(self._pools[network.name].submit(job))
