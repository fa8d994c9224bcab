"""The first pass of a picture, for whoever asks for the same again."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from torch import Tensor

from convlens.workers.methods.goals import BestScore, Score
from convlens.workers.runner import Answer, Objective, Pass, Steps

R = TypeVar("R")
# The pass that a method begins with, at a picture and for what is explained there.
Opening: TypeAlias = Callable[[Tensor, Objective], Pass]


@dataclass(frozen=True, slots=True, eq=False)
class Recall:
    """What a picture's first pass asked for, and what the network said."""

    asked: Pass
    answer: Answer

    def of(self, wanted: Pass) -> Answer | None:
        """The answer to a pass where it is known already."""
        if wanted.each is not None or not _are_same(wanted.points, self.asked.points):
            return None
        if wanted.kind == Pass(self.asked.points).kind:
            return Answer(self.answer.scores, {})
        same = wanted.kind == self.asked.kind and self._is_of(wanted.objective)
        return self.answer if same else None

    def _is_of(self, objective: Objective | None) -> bool:
        """Whether the first pass had this objective, perhaps by another name."""
        if self.asked.objective != BestScore():
            return objective == self.asked.objective
        scores = self.answer.scores[0]
        # At a tie the best score is that of one of several classes, and it does not say of which.
        is_tied = int((scores == scores.max()).sum()) > 1
        return objective == Score(int(scores.argmax())) and not is_tied


def slope(x: Tensor, objective: Objective) -> Pass:
    """Begins with the gradient by the pixels."""
    return Pass(x[None], objective)


def layer_slope(call: int, x: Tensor, objective: Objective) -> Pass:
    """Begins with the gradient by a layer."""
    return Pass(x[None], objective, capture=(call,), by=(call,))


def reading(capture: tuple[int, ...], x: Tensor, _objective: Objective) -> Pass:
    """Begins with what layers say, whatever is explained."""
    return Pass(x[None], capture=capture)


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
