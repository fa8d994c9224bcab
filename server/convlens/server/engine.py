"""What the server asks of whatever computes."""

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Sequence

from convlens.contract import RETRY_SECONDS, ErrorReason, Failure
from convlens.contract.pools import Pool
from convlens.internal.v1.job_pb2 import Job, Reply
from convlens.v1.network_pb2 import Network


class Engine(ABC):
    """Runs jobs on networks. Everything is called on the server's event loop."""

    @abstractmethod
    async def start(self) -> None:
        """Gets every network ready to answer; raises EngineError where that fails."""

    @abstractmethod
    async def stop(self) -> None:
        """Ends everything that was started, after the jobs under way."""

    @abstractmethod
    def networks(self) -> Sequence[Network]:
        """The networks that are served now, the default one first."""

    @abstractmethod
    def can_answer(self, pool: Pool) -> bool:
        """Whether this pool of any network answers now."""

    @abstractmethod
    async def call(self, network: Network, job: Job) -> Reply:
        """Runs a job of the inference pool; cancelling the wait cancels the job.

        Raises Failure where the job was not taken.
        """

    @abstractmethod
    def stream(self, network: Network, job: Job) -> AsyncGenerator[Reply, None]:
        """Runs a job of the analysis pool and yields its replies; closing it cancels the job.

        Raises Failure where the job was not taken.
        """

    @abstractmethod
    async def load(self, name: str, version: str, traffic_weight: float | None) -> Network:
        """Serves a network of the allow list, or changes its weight.

        Raises Failure NETWORK_NOT_LOADABLE.
        """

    @abstractmethod
    async def unload(self, name: str, version: str) -> None:
        """Serves a network no more; raises Failure NETWORK_NOT_LOADABLE."""


class EngineError(Exception):
    """The engine cannot start; the message says what is wrong and what to do."""


def unavailable(network: Network, detail: str) -> Failure:
    """What a caller is told whose network has nobody to compute for it now."""
    return Failure(
        ErrorReason.ERROR_REASON_WORKER_UNAVAILABLE,
        retry_after=RETRY_SECONDS,
        network=f"{network.name}@{network.version}",
        detail=detail,
    )


def not_loadable(name: str, version: str, detail: str) -> Failure:
    """What a caller is told who may not load or unload this network."""
    return Failure(
        ErrorReason.ERROR_REASON_NETWORK_NOT_LOADABLE, network=f"{name}@{version}", detail=detail
    )


def allow_list(references: Sequence[str]) -> str:
    """The networks that may be loaded, in words."""
    return f"the allow list has {', '.join(references) or 'nothing'}"
