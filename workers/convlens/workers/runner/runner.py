"""Computes what the methods of all callers ask for, together, and answers each caller when it can.

Jobs come and go between two micro-batches. Each takes its turn with one, so a short job beside a
long one is answered at its own time.
"""

import threading
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Executor
from typing import Any, cast

from convlens.contract import ErrorReason, Failure
from convlens.workers import teams
from convlens.workers.jobs import alone, broken
from convlens.workers.network import ServedNetwork
from convlens.workers.runner.asking import Answer, Fork, Pass
from convlens.workers.runner.device import Device
from convlens.workers.runner.job import AnalysisJob, Running
from convlens.workers.runner.memory import MemoryPlan
from convlens.workers.runner.rounds import (
    Item,
    MicroBatch,
    cut,
    interleaved,
)

# A pass of so many full micro-batches does not hold up the other methods of its job.
LONG_PASS = 8
# A job counts for this part of the budget at most: long ones take turns with short ones, and a few
# of them shall not keep these out.
MOST_OF_BUDGET = 100


class Runner:
    """One thread that computes for all jobs with one network.

    `rows` are those of a full micro-batch, or fewer where `memory` bytes hold no more. With
    `share`, what a job leaves over is computed in that shape too, with other jobs' and padded; else
    in a smaller one. `budget` is the cost, in passes, above which `wait_for_room` holds its caller
    back; of a long job a part counts. Jobs are prepared and answered in `executor`, which its owner
    ends after the runner.
    """

    def __init__(
        self,
        network: ServedNetwork,
        budget: int,
        rows: int,
        share: bool,
        executor: Executor,
        memory: int | None = None,
    ) -> None:
        self._budget = budget
        self._plan = MemoryPlan(network, rows, memory)
        self._device = Device(network, self._plan, self._deliver)
        self._share = share
        self._executor = executor
        self._jobs: deque[Running] = deque()
        self._resident = 0
        self._closed = False
        self._changed = threading.Condition()
        # Seconds that the last micro-batches took.
        self._took: deque[float] = deque([0.0], maxlen=16)
        self._thread = threading.Thread(target=self._run, name="runner", daemon=True)
        self._thread.start()

    def submit(self, job: AnalysisJob[Any]) -> None:
        """Takes a job; any thread may call."""
        with self._changed:
            self._resident += self._weight(job)
        self._executor.submit(self._prepare, job)

    def _prepare(self, job: AnalysisJob[Any]) -> None:
        started = time.monotonic()
        with alone(job.ticket):
            if job.ticket.is_open("before the work began"):
                job.prepare()
        if job.ticket.answered:
            self._release(job)
            return
        job.stages.wait_us = round((started - job.ticket.arrived) * 1e6)
        job.stages.decode_us = round((time.monotonic() - started) * 1e6)
        with self._changed:
            self._jobs.append(Running(job))
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
            if not self._jobs:
                teams.let_go()
            with self._changed:
                self._changed.wait_for(lambda: self._jobs or (self._closed and not self._resident))
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
        job = running.job
        if running.done:
            return True
        # One more micro-batch must not outlast the time.
        ahead = max(self._took) + job.ending
        if job.allow_partial and time.monotonic() + ahead >= job.ticket.soon:
            with alone(job.ticket):
                self._hurry(running)
        if running.done:
            return True
        if job.ticket.is_open("between two passes"):
            return False
        self._drop(running)
        self._release(job)
        return True

    def _drop(self, running: Running) -> None:
        """Computes nothing more for a job; its methods let go of what they hold."""
        running.done = True
        for item in reversed(running.items.values()):
            item.over = True
            with alone(running.job.ticket):
                item.steps.close()
        running.let_go()
        with self._changed:
            self._jobs.remove(running)

    def _hurry(self, running: Running) -> None:
        """Ends every item with what it has so far, or without anything."""
        late = Failure(ErrorReason.ERROR_REASON_DEADLINE_EXCEEDED, stage="between two passes")
        while running.items:
            for item in [each for each in running.items.values() if each.is_asking]:
                outcome = item.so_far() if item.so_far else None
                self._end(item, late if outcome is None else outcome)
        running.let_go()
        self._proceed(running)

    def _begin(self, running: Running) -> None:
        running.begun = True
        with alone(running.job.ticket):
            for key, steps in running.job.begin().items():
                self._start(Item(running, key, steps))
            self._proceed(running)

    def _start(self, item: Item) -> None:
        cast(Running, item.owner).items[item.key] = item
        # What is sent first starts a generator, and must be None.
        self._advance(item, None)

    def _turn(self, running: Running) -> None:
        """Computes the job's next micro-batch, with what others have for its free rows."""
        batch = running.batches.popleft()
        owners = {id(running): running}
        for other in self._companions(running, batch):
            batch.segments += other.batches.popleft().segments
            owners[id(other)] = other
        started = time.monotonic()
        self._device.compute(batch)
        took = time.monotonic() - started
        self._took.append(took)
        for owner in owners.values():
            owner.job.stages.compute_us += round(took / len(owners) * 1e6)
            owner.job.stages.micro_batches += 1 / len(owners)
            with alone(owner.job.ticket):
                self._watch(owner)
                self._proceed(owner)
            self._is_over(owner)

    def _watch(self, running: Running) -> None:
        for key in running.job.watch(running.so_far()):
            item = running.items[key]
            self._end(item, item.so_far() if item.so_far else None)

    def _companions(self, running: Running, batch: MicroBatch) -> Iterator[Running]:
        with self._changed:
            others = [other for other in self._jobs if other is not running and other.batches]
        for other in others:
            head = other.batches[0]
            fits = head.kind == batch.kind and head.rows == batch.rows
            if batch.free and fits and head.rows - head.free <= batch.free:
                yield other

    def _proceed(self, running: Running) -> None:
        """Begins the next round where one is over; answers where no item asks for more.

        Where only long passes are left of a round, the others do not wait for its end.
        """
        left = [batch for batch in running.batches if batch.is_wanted]
        if left and not (running.asking and all(map(self._is_long, left))):
            return
        asking = sorted(running.asking, key=lambda item: item.key)
        running.asking = []
        if not asking:
            self._drop(running)
            self._executor.submit(self._answer, running.job)
            return
        kinds = [item.wanted.kind for item in asking]
        plain = [kind for kind in kinds if kind.body is None and kind.course is None]
        running.job.rows = min([running.job.rows, *map(self._plan.rows, plain)])
        new = cut(asking, self._plan.rows, self._share)
        running.batches = deque(interleaved(left, new))

    def _is_long(self, batch: MicroBatch) -> bool:
        """Whether passes that it is a part of go on for many micro-batches."""
        least = LONG_PASS * self._plan.rows(batch.kind)
        return all(len(segment.items[0].wanted.points) >= least for segment in batch.segments)

    def _answer(self, job: AnalysisJob[Any]) -> None:
        started = time.monotonic()
        with alone(job.ticket):
            if not job.ticket.answered:
                body = job.response()
                job.stages.encode_us = round((time.monotonic() - started) * 1e6)
                job.ticket.answer(body, job.stages)
        self._release(job)

    def _release(self, job: AnalysisJob[Any]) -> None:
        with self._changed:
            self._resident -= self._weight(job)
            self._changed.notify_all()

    def _weight(self, job: AnalysisJob[Any]) -> int:
        """What a job takes of the budget while it is under way."""
        return min(job.cost, max(1, self._budget // MOST_OF_BUDGET))

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

    def _advance(self, item: Item, answer: Answer | list[object] | None) -> None:
        """Gives the method what it waited for, and takes what it asks for next."""
        running = cast(Running, item.owner)
        try:
            wanted = item.steps.send(cast(Answer, answer))
            branches = item.fork(wanted.branches) if isinstance(wanted, Fork) else None
            if branches is None:
                item.ask(cast(Pass, wanted))
        except StopIteration as end:
            self._end(item, end.value)
        except Exception as error:
            self._end(item, error)
        else:
            if branches is None:
                running.asking.append(item)
            for branch in branches or ():
                self._start(branch)

    def _end(self, item: Item, outcome: object) -> None:
        """Tells who waits for it, the job or another item, what came of an item."""
        item.over = True
        running = cast(Running, item.owner)
        running.items.pop(item.key, None)
        ticket = running.job.ticket
        with alone(ticket):
            item.steps.close()
            if isinstance(outcome, Exception):
                outcome = broken(ticket, outcome)
            running.job.accept(item.key, outcome)
            if (
                item.parent is not None
                and (outcomes := item.parent.join(item, outcome)) is not None
            ):
                self._advance(item.parent, outcomes)
