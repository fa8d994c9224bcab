"""The Triton servers behind an engine: followed as they come and go, and asked how they are."""

import asyncio
import time
from collections.abc import Coroutine, Sequence
from typing import Any

import grpc
import structlog

from convlens.server.engine import EngineError
from convlens.server.metrics import TritonMetrics
from convlens.server.triton.addresses import Addresses
from convlens.server.triton.remedies import remedy
from convlens.server.triton.replica import Replica
from convlens.server.triton.texts import TritonFault
from convlens.v1.network_pb2 import Network

log = structlog.get_logger(__name__)

REFRESH_SECONDS = 2.0
START_SECONDS = 60.0
# For the jobs of a server that is on no list any more.
RETIRE_SECONDS = 600.0


class Fleet:
    """One connection for each address that `addresses` says now."""

    def __init__(
        self,
        addresses: Addresses,
        credentials: grpc.ChannelCredentials | None,
        metrics: TritonMetrics,
    ) -> None:
        self._addresses = addresses
        self._credentials = credentials
        self._metrics = metrics
        self._replicas: dict[str, Replica] = {}
        # What was served last.
        self._known: dict[str, Network] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._asking: dict[Replica, asyncio.Task[None]] = {}
        self._retiring: set[Replica] = set()

    def replicas(self) -> Sequence[Replica]:
        """The servers of now."""
        return list(self._replicas.values())

    def networks(self) -> Sequence[Network]:
        """What any server has loaded, in the order of networks.yaml; what was added comes last.

        A network of networks.yaml that none has now, as while it starts, is served all the same;
        and so is everything that was, while no server said yet what it has.
        """
        found: dict[str, Network] = {}
        for replica in self._replicas.values():
            found.update(replica.networks)
        if found:
            lists = [replica.lists.networks for replica in self.replicas() if replica.lists]
            order = dict.fromkeys(name for names in lists for name in names)
            facts = {**{name: self._known[name] for name in order if name in self._known}, **found}
            names = [name for name in order if name in facts]
            self._known = {name: facts[name] for name in (*names, *sorted(found.keys() - order))}
        return list(self._known.values())

    async def start(self) -> None:
        """Waits until a server answers with networks; raises EngineError where none does."""
        until = time.monotonic() + START_SECONDS
        while True:
            await self._follow()
            await asyncio.gather(*(self._ask(replica) for replica in self.replicas()))
            if self.networks():
                break
            if self._hopeless() or time.monotonic() > until:
                raise EngineError(
                    f"no Triton with networks of ConvLens answers at {self._places()}; "
                    "check triton_url, triton_ca and triton_key, and that the repository was "
                    "written by convlens-workers"
                )
            await asyncio.sleep(0.5)
        self._spawn(self._watch())

    def _hopeless(self) -> bool:
        """Whether waiting helps no server, since TLS or the key is the trouble of each."""
        remedies = [remedy(replica.trouble) for replica in self._replicas.values()]
        return bool(remedies) and all(remedies)

    def _places(self) -> str:
        """The addresses that were tried, each with what went wrong there and what to do."""
        tried = [
            f"{r.address} ({remedy(r.trouble) or r.trouble or 'no networks'})"
            for r in self._replicas.values()
        ]
        return ", ".join(tried) or "any address: no name resolves"

    async def stop(self) -> None:
        """Ends the connections."""
        tasks = [*self._tasks, *self._asking.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for replica in (*self._replicas.values(), *self._retiring):
            await replica.close()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(REFRESH_SECONDS)
            try:
                await self._follow()
            except Exception:
                log.exception("addresses not followed")
            for replica in self._replicas.values():
                # Who is slow to answer holds up neither the names nor the other servers.
                if replica not in self._asking:
                    self._asking[replica] = asyncio.create_task(self._ask(replica))
                    self._asking[replica].add_done_callback(
                        lambda _, asked=replica: self._asking.pop(asked, None)
                    )

    async def _follow(self) -> None:
        """Connects to new addresses and lets go of those that are gone."""
        wanted = await self._addresses.current()
        for address in set(self._replicas) - set(wanted):
            log.info("triton left", triton=address)
            self._spawn(self._retire(self._replicas.pop(address)))
        for address, host in wanted.items():
            if address not in self._replicas:
                self._add(address, host)

    def _add(self, address: str, host: str) -> None:
        log.info("triton added", triton=address, name=host)
        replica = Replica(address, self._credentials, host, self._addresses.headers, self._metrics)
        self._replicas[address] = replica

    async def _retire(self, replica: Replica) -> None:
        """Closes a connection once the jobs on it are answered; it gets no new ones."""
        self._retiring.add(replica)
        until = time.monotonic() + RETIRE_SECONDS
        while replica.outstanding and time.monotonic() < until:
            await asyncio.sleep(0.1)
        self._retiring.discard(replica)
        await replica.close()

    async def _ask(self, replica: Replica) -> None:
        """Asks a server how it is and what it has loaded."""
        try:
            await replica.refresh()
        except Exception as error:
            replica.reachable = False
            trouble = str(error) or "no answer in time"
            if not isinstance(error, TritonFault | TimeoutError):
                log.exception("triton not understood", triton=replica.address)
            elif replica.trouble != trouble:
                advice = remedy(trouble)
                log.warning("triton out of reach", triton=replica.address, error=advice or trouble)
            replica.trouble = trouble
