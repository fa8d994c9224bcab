"""The Triton engine: many Triton servers, the least busy one first, each watched and healed."""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

import grpc
import structlog

from convlens.contract import ErrorReason, Failure
from convlens.contract.pools import Pool, model_name, network_of
from convlens.internal.v1.job_pb2 import Job, Reply
from convlens.server.engine import (
    RETRY_SECONDS,
    Engine,
    EngineError,
    allow_list,
    not_loadable,
    unavailable,
)
from convlens.server.triton.addresses import Addresses
from convlens.server.triton.replica import Replica
from convlens.server.triton.texts import Fault, TritonFault
from convlens.v1.network_pb2 import Network

log = structlog.get_logger()

REFRESH_SECONDS = 2.0
START_SECONDS = 60.0
# How long a job waits for a worker that is being healed, where no other one can take it.
HEALING_SECONDS = 10.0


class TritonEngine(Engine):
    """Runs jobs on the Triton servers at `addresses`."""

    def __init__(self, addresses: Addresses, ca: Path | None) -> None:
        self._addresses = addresses
        self._credentials = (
            grpc.ssl_channel_credentials(ca.read_bytes()) if ca is not None else None
        )
        self._replicas: dict[str, Replica] = {}
        self._watch: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Waits until a server answers with networks; raises EngineError where none does."""
        await self._addresses.start()
        until = time.monotonic() + START_SECONDS
        while True:
            await self._refresh()
            if self.networks():
                break
            if time.monotonic() > until:
                places = self._places()
                await self.stop()
                raise EngineError(
                    f"no Triton with networks of ConvLens answers at {places}; "
                    "check --triton-url, and that its repository was written by convlens-workers"
                )
            await asyncio.sleep(0.5)
        self._watch = asyncio.create_task(self._watch_on())

    def _places(self) -> str:
        """The addresses that were tried, each with what went wrong there."""
        tried = [f"{r.address} ({r.trouble or 'no networks'})" for r in self._replicas.values()]
        return ", ".join(tried) or "any address: no name resolves"

    async def stop(self) -> None:
        """Ends the connections, and what was started behind them."""
        if self._watch:
            self._watch.cancel()
        for replica in self._replicas.values():
            await replica.close()
        await self._addresses.stop()

    async def _watch_on(self) -> None:
        while True:
            await asyncio.sleep(REFRESH_SECONDS)
            try:
                await self._refresh()
            except Exception:
                log.exception("refresh failed")

    async def _refresh(self) -> None:
        """Follows the addresses, and asks each server how it is."""
        wanted = await self._addresses.current()
        for address in set(self._replicas) - set(wanted):
            await self._replicas.pop(address).close()
        for address, host in wanted.items():
            if address not in self._replicas:
                self._replicas[address] = Replica(
                    address, self._credentials, host, self._addresses.headers
                )
        await asyncio.gather(*(self._ask(replica) for replica in self._replicas.values()))

    async def _ask(self, replica: Replica) -> None:
        try:
            await replica.refresh()
        except (TritonFault, TimeoutError) as error:
            replica.reachable = False
            if replica.trouble != str(error):
                log.warning("triton out of reach", triton=replica.address, error=str(error))
            replica.trouble = str(error)

    def networks(self) -> Sequence[Network]:
        """What any server has loaded."""
        found: dict[str, Network] = {}
        for replica in self._replicas.values():
            found.update(replica.networks)
        return [found[name] for name in sorted(found)]

    def can_answer(self, pool: Pool) -> bool:
        """Whether some server has a healthy model for the pool of some network."""
        return any(
            replica.can_answer(model_name(network.name, network.version, pool))
            for replica in self._replicas.values()
            for network in replica.networks.values()
        )

    async def call(self, network: Network, job: Job) -> Reply:
        """Runs a job on the least busy server; once more, elsewhere if possible, if it broke."""
        model = model_name(network.name, network.version, "inference")
        first = self._choose(model, network, None)
        try:
            return await first.infer(model, job)
        except TritonFault as fault:
            if not fault.retry:
                raise _failure(fault, network) from fault
        second = await self._second(model, network, first, job)
        try:
            return await second.infer(model, job)
        except TritonFault as fault:
            raise _failure(fault, network) from fault

    async def stream(self, network: Network, job: Job) -> AsyncGenerator[Reply, None]:
        """Runs a job on the least busy server; once more if it broke before its first reply."""
        model = model_name(network.name, network.version, "analysis")
        replica = self._choose(model, network, None)
        for attempt in (1, 2):
            started = False
            try:
                async for reply in replica.stream(model, job):
                    started = True
                    yield reply
                return
            except TritonFault as fault:
                if attempt == 2 or started or not fault.retry:
                    raise _failure(fault, network) from fault
            replica = await self._second(model, network, replica, job)

    def _choose(self, model: str, network: Network, besides: Replica | None) -> Replica:
        """The server with the fewest jobs under way, of those where the model is well."""
        able = [r for r in self._replicas.values() if r is not besides and r.can_answer(model)]
        if not able:
            able = [r for r in self._replicas.values() if r.reachable and r is not besides]
        if not able:
            raise unavailable(network, "no server of its pool is in reach")
        return min(able, key=lambda replica: replica.outstanding)

    async def _second(self, model: str, network: Network, first: Replica, job: Job) -> Replica:
        """Who may try a broken job again: another server, or the same one when it has healed.

        What the first try took is taken off the job's time.
        """
        started = time.monotonic()
        others = [r for r in self._replicas.values() if r is not first and r.can_answer(model)]
        if others:
            chosen = min(others, key=lambda replica: replica.outstanding)
        else:
            chosen = first
            try:
                async with asyncio.timeout(HEALING_SECONDS):
                    await first.healed(model)
            except TimeoutError:
                raise unavailable(network, "its worker died and is being started again") from None
        job.remaining_us -= round((time.monotonic() - started) * 1e6)
        job.sent_us = time.monotonic_ns() // 1000
        return chosen

    async def load(self, name: str, version: str, traffic_weight: float | None) -> Network:
        """Loads a network of the repository on every server."""
        await self._each_in_repository(name, version)
        for replica in self._replicas.values():
            try:
                await replica.load(name, version, traffic_weight)
            except TritonFault as fault:
                raise not_loadable(name, version, fault.text) from fault
        for network in self.networks():
            if (network.name, network.version) == (name, version):
                return network
        raise not_loadable(name, version, "it was loaded and does not answer")

    async def unload(self, name: str, version: str) -> None:
        """Unloads a network on every server."""
        await self._each_in_repository(name, version)
        for replica in self._replicas.values():
            await replica.unload(name, version)

    async def _each_in_repository(self, name: str, version: str) -> None:
        """Raises Failure NETWORK_NOT_LOADABLE where a server's repository lacks the network."""
        for replica in self._replicas.values():
            known = [network_of(model) for model in await replica.index(ready=False)]
            references = {f"{entry[0]}@{entry[1]}" for entry in known if entry}
            if f"{name}@{version}" not in references:
                raise not_loadable(name, version, allow_list(sorted(references)))


def _failure(fault: TritonFault, network: Network) -> Failure:
    """The catalogue's word for a fault of Triton."""
    if fault.fault is Fault.QUEUE_FULL:
        return Failure(
            ErrorReason.ERROR_REASON_QUEUE_FULL,
            retry_after=RETRY_SECONDS,
            pool=f"{network.name}@{network.version}",
        )
    if fault.fault is Fault.OUT_OF_TIME:
        return Failure(ErrorReason.ERROR_REASON_DEADLINE_EXCEEDED, stage="in the queue")
    if fault.fault is Fault.UNKNOWN:
        log.error("triton failed", text=fault.text)
        return Failure(ErrorReason.ERROR_REASON_INTERNAL, request_id="")
    return unavailable(network, fault.text)
