"""Watches an attack at work: what it asks of the network, and whether gradients lead it."""

from dataclasses import dataclass, field, replace
from typing import TypeVar

from convlens.v1.receipt_pb2 import Cost
from convlens.workers.anatomy import INPUT
from convlens.workers.body import Body
from convlens.workers.runner import Answer, Pass, Steps
from convlens.workers.runner.asking import Fork

R = TypeVar("R")
# A gradient whose largest value is smaller cannot be told from rounding.
FLAT = 1e-12


@dataclass(slots=True)
class Watched:
    """What was seen of an attack; a `body` is what it attacks in place of the network."""

    body: Body | None = None
    cost: Cost = field(default_factory=Cost)
    has_slope: bool | None = None

    @property
    def is_flat(self) -> bool:
        """Whether gradients were asked for, and the first of them was zero."""
        return self.has_slope is False

    def over(self, steps: Steps[R]) -> Steps[R]:
        """The attack at work, as it is seen."""
        answer: Answer | None = None
        try:
            while True:
                # What is sent first starts a generator, and must be None.
                wanted = steps.send(answer)  # pyright: ignore[reportArgumentType]
                if isinstance(wanted, Fork):
                    answer = yield Fork([self.over(branch) for branch in wanted.branches])
                    continue
                answer = yield self._asked(wanted)
                self._look(answer)
        except StopIteration as end:
            return end.value
        finally:
            steps.close()

    def _asked(self, wanted: Pass) -> Pass:
        self.cost.forward_passes += len(wanted.points)
        if wanted.kind.gradient:
            self.cost.backward_passes += len(wanted.points)
        is_plain = self.body is None or wanted.body is not None
        return wanted if is_plain else replace(wanted, body=self.body)

    def _look(self, answer: Answer) -> None:
        if self.has_slope is None and INPUT in answer.gradients:
            self.has_slope = float(answer.slope.abs().max()) > FLAT
