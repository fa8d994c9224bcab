"""Computes what the methods of all callers ask for, together, and answers each caller when it can.

Jobs come and go between two micro-batches. Each takes its turn with one, so a short job beside a
long one is answered at its own time.
"""

import logging
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, Generic, TypeVar, cast

import torch

from convlens.contract import Failure
from convlens.internal.v1.job_pb2 import Stages
from convlens.workers.jobs import Ticket, alone, internal
from convlens.workers.network import ServedNetwork
from convlens.workers.runner.asking import Answer, Steps
from convlens.workers.runner.computing import compute
from convlens.workers.runner.rounds import Item, MicroBatch, cut, filled

log = logging.getLogger(__name__)

R = TypeVar("R")


class AnalysisJob(ABC, Generic[R]):
    """A job of many items, each with a method at work on it; `cost` is its passes at most."""

    def __init__(self, ticket: Ticket, cost: int) -> None:
        self.ticket = ticket
        self.cost = cost

    @abstractmethod
    def begin(self) -> Sequence[Steps[R]]:
        """The methods at work, one for each item; once, in the runner's thread."""

    @abstractmethod
    def accept(self, index: int, outcome: R | Failure) -> None:
        """Takes what came of an item."""

    @abstractmethod
    def response(self) -> bytes:
        """The response's bytes, once every item is accounted for."""


class Running:
    """A job between two micro-batches: those of its round, and the items of its next one."""

    def __init__(self, job: AnalysisJob[Any]) -> None:
        self.job = job
        self.batches: deque[MicroBatch] = deque()
        self.asking: list[Item] = []
        self.begun = False


class Runner:
    """One thread that computes for all jobs with one network.

    `rows` are those of a full micro-batch. With `share`, what a job leaves over is computed in that
    shape too, with other jobs' and padded; else one row at a time. `budget` is the cost, in passes,
    above which `wait_for_room` holds its caller back.
    """

    def __init__(self, network: ServedNetwork, budget: int, rows: int, share: bool) -> None:
        self._network = network
        self._budget = budget
        self._rows = rows
        self._share = share
        self._jobs: deque[Running] = deque()
        self._resident = 0
        self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="runner", daemon=True)
        self._thread.start()

    def submit(self, job: AnalysisJob[Any]) -> None:
        """Takes a job; any thread may call."""
        with self._changed:
            self._jobs.append(Running(job))
            self._resident += job.cost
            self._changed.notify_all()

    def wait_for_room(self) -> None:
        """Blocks while the cost of the jobs under way is over the budget."""
        with self._changed:
            self._changed.wait_for(lambda: self._resident <= self._budget or self._closed)

    def is_idle(self) -> bool:
        """Whether every job that was taken is answered."""
        return self._resident == 0

    def close(self) -> None:
        """Ends after the jobs that were taken."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()

    def _run(self) -> None:
        while running := self._next():
            self._turn(running)

    def _next(self) -> Running | None:
        """The job whose turn it is; every job that came has begun, so that it can be company."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._jobs or self._closed)
                if not self._jobs:
                    return None
                new = [running for running in self._jobs if not running.begun]
                self._jobs.rotate(-1)
                head = self._jobs[-1]
            for running in new:
                self._begin(running)
            if not self._is_over(head):
                return head

    def _is_over(self, running: Running) -> bool:
        """Whether the job is answered, or nobody waits for it; then it is let go."""
        if running.job.ticket.is_open("between two passes"):
            return False
        with self._changed:
            if running in self._jobs:
                self._jobs.remove(running)
                self._resident -= running.job.cost
                self._changed.notify_all()
        return True

    def _begin(self, running: Running) -> None:
        running.begun = True
        with alone(running.job.ticket):
            items = [Item(running, n, steps) for n, steps in enumerate(running.job.begin())]
            for item in items:
                self._advance(item, None)
            self._plan(running)

    def _turn(self, running: Running) -> None:
        """Computes the job's next micro-batch, with what others have for its free rows."""
        batch = running.batches.popleft()
        owners = {id(running): running}
        for other in self._companions(running, batch):
            batch.segments += other.batches.popleft().segments
            owners[id(other)] = other
        self._compute(batch)
        for owner in owners.values():
            with alone(owner.job.ticket):
                self._plan(owner)
            self._is_over(owner)

    def _companions(self, running: Running, batch: MicroBatch) -> Iterator[Running]:
        with self._changed:
            others = [other for other in self._jobs if other is not running and other.batches]
        for other in others:
            head = other.batches[0]
            fits = head.kind == batch.kind and head.rows == batch.rows
            if batch.free and fits and head.rows - head.free <= batch.free:
                yield other

    def _plan(self, running: Running) -> None:
        """Begins the next round where one is over; answers where no item asks for more."""
        if running.batches:
            return
        asking = sorted(running.asking, key=lambda item: item.index)
        running.asking = []
        if asking:
            running.batches.extend(cut(asking, self._rows, self._share))
        elif not running.job.ticket.answered:
            running.job.ticket.answer(running.job.response(), Stages())

    def _compute(self, batch: MicroBatch) -> None:
        """Hands every segment its answer; what breaks is its own item's."""
        batch.segments = [each for each in batch.segments if not each.item.over]
        if not batch.segments:
            return
        try:
            outcomes = compute(self._network, batch)
        except torch.OutOfMemoryError:
            self._compute_in_halves(batch)
        except Exception as error:
            self._compute_apart(batch, error)
        else:
            for segment, outcome in zip(batch.segments, outcomes, strict=True):
                self._deliver(segment.item, outcome)

    def _compute_in_halves(self, batch: MicroBatch) -> None:
        """Where memory did not hold so many rows: from now on, half of them."""
        torch.cuda.empty_cache()
        if batch.rows == 1:
            self._compute_apart(batch, MemoryError("one row is more than the memory holds"))
            return
        self._rows = min(self._rows, batch.rows // 2)
        log.warning("memory does not hold a micro-batch", extra={"rows": self._rows})
        for half in filled(batch.kind, batch.rows // 2, batch.segments):
            self._compute(half)

    def _compute_apart(self, batch: MicroBatch, error: Exception) -> None:
        """Where the network broke: each item in a micro-batch of its own, of the same shape."""
        items = {id(segment.item): segment.item for segment in batch.segments}
        if len(items) == 1:
            for item in items.values():
                self._deliver(item, error)
            return
        for item in items.values():
            own = [segment for segment in batch.segments if segment.item is item]
            self._compute(MicroBatch(batch.kind, batch.rows, own))

    def _deliver(self, item: Item, outcome: Answer | Exception) -> None:
        if item.over:
            return
        if isinstance(outcome, Exception):
            self._end(item, outcome)
            return
        try:
            whole = item.take(outcome)
        except Exception as error:
            self._end(item, error)
        else:
            if whole is not None:
                self._advance(item, whole)

    def _advance(self, item: Item, answer: Answer | None) -> None:
        """Gives the method what it waited for, and takes what it asks for next."""
        running = cast(Running, item.owner)
        try:
            # What is sent first starts a generator, and must be None.
            item.ask(item.steps.send(cast(Answer, answer)))
        except StopIteration as end:
            self._end(item, end.value)
        except Exception as error:
            self._end(item, error)
        else:
            running.asking.append(item)

    def _end(self, item: Item, outcome: object) -> None:
        """Tells the job what came of an item."""
        item.over = True
        running = cast(Running, item.owner)
        ticket = running.job.ticket
        with alone(ticket):
            item.steps.close()
            if isinstance(outcome, Exception) and not isinstance(outcome, Failure):
                log.error("a method broke", exc_info=outcome, extra={"job": ticket.job.request_id})
                outcome = internal(ticket)
            running.job.accept(item.index, outcome)
