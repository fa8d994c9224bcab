"""The first pass of a picture, for whoever asks for the same again."""

from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor

from convlens.workers.methods.goals import BestScore, Score
from convlens.workers.runner import Answer, Pass, Steps

R = TypeVar("R")


@dataclass(frozen=True, slots=True, eq=False)
class Recall:
    """What a picture's first pass asked for, and what the network said."""

    asked: Pass
    answer: Answer

    @classmethod
    def pass_of(cls, x: Tensor, *, slope: bool) -> Pass:
        """The first pass of x: its scores, and the gradient of the best one with `slope`."""
        return Pass(x[None], BestScore() if slope else None)

    def of(self, wanted: Pass) -> Answer | None:
        """The answer to a pass where it is known already."""
        if wanted.each is not None or not _are_same(wanted.points, self.asked.points):
            return None
        scores = Answer(self.answer.scores, {})
        if wanted.kind == Pass(self.asked.points).kind:
            return scores
        if wanted.kind != self.asked.kind or wanted.objective != Score(self._best):
            return None
        # At a tie the best score is that of one of several classes, and it does not say of which.
        ties = int((scores.scores == scores.scores.max()).sum())
        return self.answer if ties == 1 else None

    @property
    def _best(self) -> int:
        return int(self.answer.scores[0].argmax())


def recalled(steps: Steps[R], recall: Recall) -> Steps[R]:
    """A method at work that is not made to ask for what is known."""
    answer: Answer | None = None
    try:
        while True:
            # What is sent first starts a generator, and must be None.
            wanted = steps.send(answer)  # pyright: ignore[reportArgumentType]
            answer = recall.of(wanted) if isinstance(wanted, Pass) else None
            if answer is None:
                answer = yield wanted
    except StopIteration as end:
        return end.value
    finally:
        steps.close()


def _are_same(points: object, others: object) -> bool:
    """Whether both are the same memory, and not only equal."""
    if not isinstance(points, Tensor) or not isinstance(others, Tensor):
        return False
    return points.data_ptr() == others.data_ptr() and points.shape == others.shape
