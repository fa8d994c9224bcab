"""The Triton engine: many Triton servers, the least busy one first, each watched and healed."""

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing

import grpc
import structlog

from convlens.contract import RETRY_SECONDS, ErrorReason, Failure
from convlens.contract.pools import Pool, model_name
from convlens.internal.v1.job_pb2 import Job, Reply
from convlens.server.engine import (
    Engine,
    allow_list,
    not_loadable,
    unavailable,
)
from convlens.server.metrics import TritonMetrics
from convlens.server.triton.addresses import Addresses
from convlens.server.triton.fleet import Fleet
from convlens.server.triton.replica import Replica
from convlens.server.triton.texts import Fault, TritonFault
from convlens.v1.network_pb2 import Network

log = structlog.get_logger(__name__)

# How long a job waits for a worker that is being healed, where no other one can take it.
HEALING_SECONDS = 10.0
# For the loads under way when the server stops.
CHANGE_SECONDS = 5.0


class TritonEngine(Engine):
    """Runs jobs on the Triton servers at `addresses`."""

    def __init__(
        self,
        addresses: Addresses,
        credentials: grpc.ChannelCredentials | None,
        metrics: TritonMetrics,
    ) -> None:
        self._addresses = addresses
        self._metrics = metrics
        self._fleet = Fleet(addresses, credentials, metrics)
        self._changes: set[asyncio.Task[None]] = set()
        # One change of a network at a time.
        self._turns = defaultdict[str, asyncio.Lock](asyncio.Lock)

    async def start(self) -> None:
        """Waits until a server answers with networks; raises EngineError where none does."""
        try:
            await self._addresses.start()
            await self._fleet.start()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Ends what is being changed, then the connections, and what was started behind them."""
        if self._changes:
            _, late = await asyncio.wait(self._changes, timeout=CHANGE_SECONDS)
            for task in late:
                log.warning("change of the networks cut off", seconds=CHANGE_SECONDS)
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        await self._fleet.stop()
        await self._addresses.stop()

    def networks(self) -> Sequence[Network]:
        """What any server has loaded."""
        return self._fleet.networks()

    def can_answer(self, pool: Pool) -> bool:
        """Whether some server has a healthy model for the pool of some network."""
        return any(
            replica.can_answer(model_name(network.name, network.version, pool))
            for replica in self._fleet.replicas()
            for network in replica.networks.values()
        )

    async def call(self, network: Network, job: Job) -> Reply:
        """Runs a job on the least busy server; once more, elsewhere if possible, if it broke."""
        async with aclosing(self._run(network, "inference", job)) as replies:
            async for reply in replies:
                return reply
        raise unavailable(network, "its worker took the job and did not answer")

    def stream(self, network: Network, job: Job) -> AsyncGenerator[Reply, None]:
        """Runs a job on the least busy server; once more if it broke before its first reply."""
        return self._run(network, "analysis", job)

    async def _run(self, network: Network, pool: Pool, job: Job) -> AsyncGenerator[Reply, None]:
        model = model_name(network.name, network.version, pool)
        replica = self._choose(model, network, pool)
        for attempt in (1, 2):
            # What is sent to a model that is being healed would still reach the dead worker.
            await _healed(replica, model, network)
            started = False
            try:
                # Closed here and now when the caller leaves, which is what cancels the job.
                async with aclosing(replica.stream(model, job)) as replies:
                    async for reply in replies:
                        started = True
                        yield reply
                return
            except TritonFault as fault:
                if attempt == 2 or started or not fault.retry:
                    raise _failure(fault, network, pool, job) from fault
            replica = self._second(model, replica)
            job.remaining_us -= time.monotonic_ns() // 1000 - job.sent_us
            job.sent_us = time.monotonic_ns() // 1000

    def _choose(self, model: str, network: Network, pool: Pool) -> Replica:
        """The least busy server of the pool, of those where the model is well if there are any."""
        reachable = [
            replica
            for replica in self._fleet.replicas()
            if replica.reachable and pool in replica.pools
        ]
        if not reachable:
            raise unavailable(network, "no server of its pool is in reach")
        return min(_able(reachable, model) or reachable, key=_load)

    def _second(self, model: str, first: Replica) -> Replica:
        """Who may try a broken job again: another server, or the same one when it has healed."""
        others = _able([each for each in self._fleet.replicas() if each is not first], model)
        chosen = min(others, key=_load, default=first)
        self._metrics.retries.labels("same" if chosen is first else "another").inc()
        return chosen

    async def load(self, name: str, version: str, traffic_weight: float | None) -> Network:
        """Loads a network of the allow list on every server in reach, or on none."""

        async def on_all(replicas: Sequence[Replica]) -> None:
            loads = (each.load(name, version, traffic_weight) for each in replicas)
            ended = await asyncio.gather(*loads, return_exceptions=True)
            if any(isinstance(each, BaseException) for each in ended):
                done = zip(replicas, ended, strict=True)
                loaded = [(on, was) for on, was in done if not isinstance(was, BaseException)]
                await asyncio.gather(*(replica.restore(before) for replica, before in loaded))
            _raise_first(ended)

        await self._change(name, version, on_all)
        reference = f"{name}@{version}"
        for replica in self._fleet.replicas():
            if replica.knows(reference):
                return replica.networks[reference]
        # Another server may have unloaded it again, or its pool has too much to do.
        network = Network(name=name, version=version)
        raise unavailable(network, "it was loaded and does not answer yet")

    async def unload(self, name: str, version: str) -> None:
        """Unloads a network of the allow list on every server in reach."""

        async def on_all(replicas: Sequence[Replica]) -> None:
            unloads = (each.unload(name, version) for each in replicas)
            _raise_first(await asyncio.gather(*unloads, return_exceptions=True))

        await self._change(name, version, on_all)

    async def _change(
        self, name: str, version: str, on_all: Callable[[Sequence[Replica]], Awaitable[None]]
    ) -> None:
        """Changes every server, all at once, and to the end even where the caller leaves."""

        async def change() -> None:
            replicas = self._allowing(name, version)
            # A change of another network does not wait for this one, which may take minutes.
            async with self._turns[f"{name}@{version}"]:
                try:
                    await on_all(replicas)
                except (TritonFault, TimeoutError) as fault:
                    raise _unchanged(fault, name, version) from fault

        task = asyncio.create_task(change())
        self._changes.add(task)
        task.add_done_callback(self._changes.discard)
        await asyncio.shield(task)

    def _allowing(self, name: str, version: str) -> list[Replica]:
        """The servers in reach; raises Failure where one may not load the network, or none is."""
        replicas = [replica for replica in self._fleet.replicas() if replica.reachable]
        if not replicas:
            raise unavailable(Network(name=name, version=version), "no server is in reach")
        for replica in replicas:
            loadable = replica.lists.loadable if replica.lists else ()
            if f"{name}@{version}" not in loadable:
                raise not_loadable(name, version, allow_list(loadable))
        return replicas


async def _healed(replica: Replica, model: str, network: Network) -> None:
    """Waits while the model is being healed; raises Failure where that takes too long."""
    try:
        async with asyncio.timeout(HEALING_SECONDS):
            await replica.healed(model)
    except TimeoutError:
        raise unavailable(network, "its worker died and is being started again") from None


def _able(replicas: Sequence[Replica], model: str) -> list[Replica]:
    return [replica for replica in replicas if replica.can_answer(model)]


def _load(replica: Replica) -> tuple[int, float]:
    """How much a server has to do; of equals, who had no work for the longest time comes first."""
    return replica.outstanding, replica.last_taken


def _raise_first(ended: Sequence[object]) -> None:
    for each in ended:
        if isinstance(each, BaseException):
            raise each


def _unchanged(fault: TritonFault | TimeoutError, name: str, version: str) -> Failure:
    """Why a network was not loaded or unloaded; a model says itself why it does not start."""
    if isinstance(fault, TritonFault) and not fault.retry:
        log.error("network not changed", network=f"{name}@{version}", text=fault.text)
        return not_loadable(name, version, fault.reason)
    network = Network(name=name, version=version)
    return unavailable(network, str(fault) or "Triton did not answer in time")


def _failure(fault: TritonFault, network: Network, pool: Pool, job: Job) -> Failure:
    """The catalogue's word for a fault of Triton."""
    if fault.fault is Fault.NO_ROOM:
        # The bytes in flight are more than Triton's /dev/shm can take: a queue like another.
        log.error("triton's /dev/shm is full: make it larger", text=fault.text)
        return Failure(
            ErrorReason.ERROR_REASON_QUEUE_FULL,
            retry_after=RETRY_SECONDS,
            pool=model_name(network.name, network.version, pool),
        )
    if fault.fault is Fault.OUT_OF_TIME:
        return Failure(ErrorReason.ERROR_REASON_DEADLINE_EXCEEDED, stage="before the answer came")
    if fault.fault is Fault.UNKNOWN:
        log.error("triton failed", text=fault.text)
        return Failure(ErrorReason.ERROR_REASON_INTERNAL, request_id=job.request_id)
    return unavailable(network, fault.text)
