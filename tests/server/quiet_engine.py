"""An engine that computes nothing."""

from collections.abc import AsyncGenerator, Sequence

from convlens.contract.pools import Pool
from convlens.internal.v1.job_pb2 import Job, Reply
from convlens.server.engine import Engine
from convlens.v1.network_pb2 import Network


class Quiet(Engine):
    """Answers every job with an empty response; `able` says whether it can."""

    able = True

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    def networks(self) -> Sequence[Network]:
        return [Network(name="shapes", version="1")]

    def can_answer(self, pool: Pool) -> bool:
        return self.able

    async def call(self, network: Network, job: Job) -> Reply:
        return Reply(response=b"")

    async def stream(self, network: Network, job: Job) -> AsyncGenerator[Reply, None]:
        yield await self.call(network, job)

    async def load(self, name: str, version: str, traffic_weight: float | None) -> Network:
        return self.networks()[0]

    async def unload(self, name: str, version: str) -> None: ...
