"""What the server asks of whatever computes."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from convlens.internal.v1.job_pb2 import Job, Reply
from convlens.v1.network_pb2 import Network


class Engine(ABC):
    """Runs jobs on networks. Every method but `networks` is called on the server's event loop."""

    @abstractmethod
    async def start(self) -> None:
        """Gets every network ready to answer; raises EngineError where that fails."""

    @abstractmethod
    async def stop(self) -> None:
        """Ends everything that was started, after the jobs under way."""

    @abstractmethod
    def networks(self) -> Sequence[Network]:
        """The served networks, the default one first."""

    @abstractmethod
    async def call(self, network: Network, job: Job) -> Reply:
        """Runs a job and waits for its reply; cancelling the wait cancels the job.

        Raises Failure where the job was not taken.
        """


class EngineError(Exception):
    """The engine cannot start; the message says what is wrong and what to do."""
