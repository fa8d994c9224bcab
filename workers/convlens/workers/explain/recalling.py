"""The first passes of a picture, for whoever asks for the same again."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from torch import Tensor

from convlens.contract import Failure
from convlens.workers.methods.goals import BestScore, Score
from convlens.workers.runner import Answer, Objective, Outputs, Pass, Steps, side_by_side

R = TypeVar("R")
# The pass that a method begins with, at a picture and for what is explained there.
Opening: TypeAlias = Callable[[Tensor, Objective], Pass]


@dataclass(frozen=True, slots=True, eq=False)
class Recall:
    """What the first passes of a picture asked for, at least one, and what the network said."""

    answered: Sequence[tuple[Pass, Answer]]

    @property
    def scores(self) -> Tensor:
        """Those of the picture [1, classes]."""
        return self.answered[0][1].scores

    def of(self, wanted: Pass) -> Answer | None:
        """The answer to a pass where it is known already."""
        points = self.answered[0][0].points
        if wanted.each is not None or not _are_same(wanted.points, points):
            return None
        if wanted.kind == Pass(points).kind:
            objective = wanted.objective
            values = objective(Outputs(self.scores, {})) if objective else None
            return Answer(self.scores, {}, values)
        same = (
            answer
            for asked, answer in self.answered
            if wanted.kind == asked.kind and _is_of(wanted.objective, asked.objective, answer)
        )
        return next(same, None)


def _is_of(objective: Objective | None, asked: Objective | None, answer: Answer) -> bool:
    """Whether a pass that was asked with one objective had another, by another name."""
    if asked != BestScore():
        return objective == asked
    scores = answer.scores[0]
    # At a tie the best score is that of one of several classes, and it does not say of which.
    is_tied = int((scores == scores.max()).sum()) > 1
    return objective == Score(int(scores.argmax())) and not is_tied


def first_passes(passes: Sequence[Pass]) -> Steps[Recall]:
    """Asks for a picture's first passes together.

    Raises what comes of one where none has an answer; else it is asked for again by its method.
    """
    # In a branch of branches, so that nobody takes their outcomes for those of methods.
    [found] = yield from side_by_side([side_by_side([_asked(each) for each in passes])])
    if isinstance(found, Failure):
        raise found
    failures = [each for each in found if isinstance(each, Failure)]
    if len(failures) == len(passes):
        raise failures[0]
    answers = zip(passes, found, strict=True)
    return Recall([(asked, each) for asked, each in answers if not isinstance(each, Failure)])


def _asked(wanted: Pass) -> Steps[Answer]:
    return (yield wanted)


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
