"""Runs the jobs of the analysis pool side by side, a pass of each in turn."""

import threading
from collections import deque
from collections.abc import Generator
from dataclasses import dataclass
from typing import TypeAlias

from convlens.internal.v1.job_pb2 import Stages
from convlens.workers.jobs import Ticket, alone

# Computes a pass between two yields, and returns the response's bytes.
Steps: TypeAlias = Generator[None, None, bytes]


@dataclass
class Running:
    """A job between two of its passes."""

    ticket: Ticket
    steps: Steps
    cost: int


class Runner:
    """One thread that gives every job a pass in turn and answers each when it is done.

    So a short job beside a long one is answered at its own time. `budget` is the cost, in passes,
    above which `wait_for_room` holds its caller back.
    """

    def __init__(self, name: str, budget: int) -> None:
        self._budget = budget
        self._jobs: deque[Running] = deque()
        self._resident = 0
        self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, ticket: Ticket, steps: Steps, cost: int) -> None:
        """Takes a job of `cost` passes."""
        with self._changed:
            self._jobs.append(Running(ticket, steps, cost))
            self._resident += cost
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
        while job := self._next():
            if self._step(job):
                with self._changed:
                    self._jobs.append(job)
            else:
                self._let_go(job)

    def _let_go(self, job: Running) -> None:
        with alone(job.ticket):
            job.steps.close()
        with self._changed:
            self._resident -= job.cost
            self._changed.notify_all()

    def _next(self) -> Running | None:
        with self._changed:
            self._changed.wait_for(lambda: self._jobs or self._closed)
            return self._jobs.popleft() if self._jobs else None

    def _step(self, job: Running) -> bool:
        """Computes one pass; False once the job is answered."""
        with alone(job.ticket):
            if job.ticket.is_open("between two passes"):
                self._advance(job)
        return not job.ticket.answered

    @staticmethod
    def _advance(job: Running) -> None:
        try:
            next(job.steps)
        except StopIteration as end:
            job.ticket.answer(end.value, Stages())
