"""Jobs in a worker's hands: what came, until when it matters, and how to answer."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from convlens.contract import ErrorReason, Failure
from convlens.internal.v1.job_pb2 import Job, Reply, Stages


@dataclass
class Ticket:
    """A job, its deadline (on `time.monotonic`), whether its caller left, how to answer."""

    job: Job
    deadline: float
    cancelled: Callable[[], bool]
    reply: Callable[[Reply], None]
    answered: bool = field(default=False, init=False)

    def answer(self, response: bytes, stages: Stages) -> None:
        """Sends the public response's bytes."""
        self._send(Reply(response=response, stages=stages))

    def fail(self, failure: Failure) -> None:
        """Sends the status of `failure`, unless an answer was sent before."""
        if not self.answered:
            self._send(Reply(error=failure.status()))

    def _send(self, reply: Reply) -> None:
        self.answered = True
        self.reply(reply)

    def is_open(self, stage: str) -> bool:
        """Whether work on it still has a point; where time is over its caller is told, once.

        `stage` completes "The time allowed for the call was over …".
        """
        if self.answered:
            return False
        if self.cancelled():
            self.fail(Failure(ErrorReason.ERROR_REASON_CANCELLED))
        elif time.monotonic() >= self.deadline:
            self.fail(Failure(ErrorReason.ERROR_REASON_DEADLINE_EXCEEDED, stage=stage))
        return not self.answered
