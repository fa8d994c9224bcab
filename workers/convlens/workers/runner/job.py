"""What the runner is asked for: a job, and how far it has come."""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Collection, Mapping
from typing import Any, Generic, TypeVar

from convlens.contract import Failure
from convlens.internal.v1.job_pb2 import Stages
from convlens.v1.receipt_pb2 import Cost
from convlens.workers.jobs import Ticket
from convlens.workers.runner.asking import Steps
from convlens.workers.runner.rounds import Item, Key, MicroBatch

R = TypeVar("R")


class AnalysisJob(ABC, Generic[R]):
    """A job of many items, each with a method at work on it; `cost` is its passes at most.

    With `allow_partial`, what there is shortly before the deadline is the answer.
    """

    def __init__(self, ticket: Ticket, cost: int, *, allow_partial: bool = False) -> None:
        self.ticket = ticket
        self.cost = cost
        self.allow_partial = allow_partial
        #: Seconds that putting the answer together may take beyond what is usual.
        self.ending = 0.0
        #: Most rows of a micro-batch of the network itself; fewer than asked for where memory ends.
        self.rows = 2**31
        #: What was computed for it so far, in rows.
        self.spent = Cost()
        self.stages = Stages()

    def prepare(self) -> None:
        """What is done before the first pass, such as decoding; not in the runner's thread."""

    @abstractmethod
    def begin(self) -> Mapping[Key, Steps[R]]:
        """The items; once, in the runner's thread, as all that follows."""

    @abstractmethod
    def accept(self, key: Key, outcome: R | Failure) -> None:
        """Takes what came of an item, or of a branch of one: its key begins with the item's."""

    def watch(self, working: Mapping[Key, Callable[[], R | None]]) -> Collection[Key]:
        """Told between two micro-batches what items and branches would return if they ended now.

        Those that it names end with that.
        """
        del working
        return ()

    @abstractmethod
    def response(self) -> bytes:
        """The response's bytes, once every item is accounted for; not in the runner's thread."""


class Running:
    """A job between two micro-batches: those of its round, and the items of its next one."""

    def __init__(self, job: AnalysisJob[Any]) -> None:
        self.job = job
        self.batches: deque[MicroBatch] = deque()
        self.items: dict[Key, Item] = {}
        self.asking: list[Item] = []
        self.begun = False
        self.done = False

    def let_go(self) -> None:
        """Holds nothing of its items any more: they hold it, and garbage of tensors is large."""
        self.batches.clear()
        self.asking.clear()
        self.items.clear()

    def so_far(self) -> dict[Key, Callable[[], Any]]:
        """What those of its items that can end now would return."""
        found = {key: item.so_far for key, item in self.items.items()}
        return {key: so_far for key, so_far in found.items() if so_far}
