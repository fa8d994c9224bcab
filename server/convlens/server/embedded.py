"""The embedded engine: workers as threads of the server's own process."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

import structlog

from convlens.contract.pools import Pool
from convlens.internal.v1.job_pb2 import Job, Reply
from convlens.server.engine import (
    Engine,
    EngineError,
    allow_list,
    not_loadable,
    unavailable,
)
from convlens.server.metrics import Metrics
from convlens.v1.network_pb2 import Network

if TYPE_CHECKING:
    from convlens.workers.config import Config, NetworkEntry
    from convlens.workers.intake import Intake

log = structlog.get_logger(__name__)

# For the pass under way, once nobody waits for it any more.
CLOSE_SECONDS = 5.0


@dataclass(frozen=True)
class Served:
    """A network in this process, with its pools."""

    facts: Network
    pools: "dict[Pool, Intake]"


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
        from convlens.workers.spinning import spin_briefly

        spin_briefly()
        from convlens.workers.config import ConfigError, load_config
        from convlens.workers.usage import device_bytes

        self._metrics.device_memory.watch(device_bytes, "", "", "")
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
        from convlens.workers import teams
        from convlens.workers.catalog import load_network
        from convlens.workers.intake import Intake
        from convlens.workers.worker import AnalysisWorker, InferenceWorker

        try:
            network = load_network(entry, self._device)
            name, pools = entry.reference, self._config.pools
            inference = InferenceWorker(network)
            analysis = AnalysisWorker(network, pools.analysis)
            intakes: dict[Pool, Intake] = {
                "inference": Intake(f"{name}-inference", pools.inference, inference),
                "analysis": Intake(f"{name}-analysis", pools.analysis, analysis),
            }
            for pool, intake in intakes.items():
                self._metrics.watch_queue(
                    name, pool, intake.__len__, lambda intake=intake: intake.oldest_seconds
                )
            self._served[name] = Served(network.facts, intakes)
        finally:
            # Whichever thread this is, it does not compute any more.
            teams.let_go()

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
        future = Future[Reply]()

        def reply(answer: Reply) -> None:
            if future.set_running_or_notify_cancel():
                future.set_result(answer)

        self._submit(network, "inference", job, future.cancelled, reply)
        return await asyncio.wrap_future(future)

    async def stream(self, network: Network, job: Job) -> AsyncGenerator[Reply, None]:
        """Runs a job in the network's analysis pool."""
        loop, left = asyncio.get_running_loop(), Event()
        replies = asyncio.Queue[Reply]()

        def reply(answer: Reply) -> None:
            loop.call_soon_threadsafe(replies.put_nowait, answer)

        self._submit(network, "analysis", job, left.is_set, reply)
        try:
            while True:
                answer = await replies.get()
                yield answer
                if not answer.more:
                    return
        finally:
            left.set()

    def _submit(
        self,
        network: Network,
        pool: Pool,
        job: Job,
        cancelled: Callable[[], bool],
        reply: Callable[[Reply], None],
    ) -> None:
        from convlens.workers.jobs import Ticket

        served = self._served.get(f"{network.name}@{network.version}")
        if served is None:
            raise unavailable(network, "it was unloaded")
        arrived = time.monotonic()
        deadline = arrived + job.remaining_us / 1e6
        served.pools[pool].submit(Ticket(job, arrived, deadline, cancelled, reply))

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
