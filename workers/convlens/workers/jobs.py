"""Jobs in a worker's hands: what came, until when it matters, and how to answer."""

import logging
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock
from typing import TypeVar

from convlens.contract import ErrorReason, Failure
from convlens.contract.deadlines import margin
from convlens.internal.v1.job_pb2 import Job, Reply, Stages
from convlens.workers.raised import is_out_of_memory

R = TypeVar("R")

log = logging.getLogger(__name__)


@dataclass(eq=False)
class Ticket:
    """A job, when it came and its deadline, whether its caller left, and how to answer.

    Times are on `time.monotonic`. Any thread may ask and answer. `cancelled` and `reply` are not
    called once it is answered: Triton has freed what they would look at.
    """

    job: Job
    arrived: float
    deadline: float
    cancelled: Callable[[], bool]
    reply: Callable[[Reply], None]
    answered: bool = field(default=False, init=False)
    _lock: Lock = field(default_factory=Lock, init=False, repr=False)

    @property
    def soon(self) -> float:
        """When it is time to put an answer together, for it to be there by the deadline."""
        return self.deadline - margin(self.deadline - self.arrived)

    def tell(self, response: bytes, topic: str = "") -> None:
        """Sends a response's bytes that others will follow, unless an answer was sent before.

        With a topic, it may be lost on its way to a slow caller once another of that topic is told.
        """
        self._send(Reply(response=response, more=True, topic=topic))

    def answer(self, response: bytes, stages: Stages) -> None:
        """Sends the public response's bytes, unless an answer was sent before."""
        self._send(Reply(response=response, stages=stages))

    def fail(self, failure: Failure) -> None:
        """Sends the status of `failure`, unless an answer was sent before."""
        self._send(Reply(error=failure.status()))

    def _send(self, reply: Reply) -> None:
        with self._lock:
            if self.answered:
                return
            self.answered = not reply.more
            try:
                self.reply(reply)
            except Exception:
                # Nobody is left to tell; the thread goes on, since it works for others too.
                log.exception("an answer could not be sent", extra={"job": self.job.request_id})

    def is_open(self, stage: str) -> bool:
        """Whether work on it still has a point; where time is over its caller is told, once.

        `stage` completes "The time allowed for the call was over …".
        """
        if not self.is_over():
            return True
        if time.monotonic() >= self.deadline:
            self.fail(Failure(ErrorReason.ERROR_REASON_DEADLINE_EXCEEDED, stage=stage))
        else:
            self.fail(Failure(ErrorReason.ERROR_REASON_CANCELLED))
        return False

    def is_over(self) -> bool:
        """Whether it is answered, its time has ended or its caller left."""
        if self.answered or time.monotonic() >= self.deadline:
            return True
        with self._lock:
            return self.answered or self.cancelled()


@contextmanager
def alone(ticket: Ticket) -> Generator[None]:
    """Whatever goes wrong inside is this ticket's, and touches no neighbour."""
    try:
        yield
    except Failure as failure:
        ticket.fail(failure)
    except Exception as error:
        fail([ticket], error)


def guarded(ticket: Ticket, work: Callable[[], R]) -> R | Failure:
    """What a part of the work for a ticket gives, or why it gives nothing."""
    try:
        return work()
    except Exception as error:
        return broken(ticket, error)


def fail(tickets: Iterable[Ticket], error: Exception) -> None:
    """Tells the callers whose jobs an error broke."""
    broken = [ticket for ticket in tickets if not ticket.answered]
    ids = [ticket.job.request_id for ticket in broken]
    log.error("jobs failed", exc_info=error, extra={"jobs": ids})
    for ticket in broken:
        ticket.fail(_ours(ticket, error))


def broken(ticket: Ticket, error: Exception) -> Failure:
    """What a caller is told of a part that broke; a Failure is told as it is."""
    if isinstance(error, Failure):
        return bare(error)
    log.error("a part of a job failed", exc_info=error, extra={"job": ticket.job.request_id})
    return _ours(ticket, error)


def bare(failure: Failure) -> Failure:
    """The same without its frames: what is kept by what they hold would keep that, files too."""
    failure.__context__ = failure.__cause__ = None
    return failure.with_traceback(None)


def _ours(ticket: Ticket, error: Exception) -> Failure:
    """What a caller is told of what is no fault of the request; the log has the rest."""
    if is_out_of_memory(error):
        return Failure(ErrorReason.ERROR_REASON_OUT_OF_MEMORY)
    return Failure(ErrorReason.ERROR_REASON_INTERNAL, request_id=ticket.job.request_id)
