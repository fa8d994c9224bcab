"""Gradients averaged over several runs, for networks that draw at random."""

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from convlens.workers.runner import Answer, Steps
from convlens.workers.runner.asking import Fork, R


def averaged(steps: Steps[R], samples: int) -> Steps[R]:
    """A method for one point at a time, whose gradients are means over so many rows of that point.

    Athalye et al. 2018, arXiv:1802.00420, section 4.2.
    """
    answer: Answer | None = None
    try:
        while True:
            # What is sent first starts a generator, and must be None.
            wanted = steps.send(answer)  # pyright: ignore[reportArgumentType]
            if isinstance(wanted, Fork):
                answer = yield Fork([averaged(branch, samples) for branch in wanted.branches])
            elif wanted.kind.gradient:
                points = wanted.points[:1].expand(samples, -1, -1, -1)
                answer = _mean((yield replace(wanted, points=points)))
            else:
                answer = yield wanted
    except StopIteration as end:
        return end.value
    finally:
        steps.close()


def _mean(answer: Answer) -> Answer:
    """One row of the means of all rows."""
    values = None if answer.values is None else answer.values.mean(dim=0, keepdim=True)
    return Answer(
        answer.scores.mean(dim=0, keepdim=True),
        _means(answer.captured),
        values,
        _means(answer.gradients),
    )


def _means(found: Mapping[int, Tensor]) -> dict[int, Tensor]:
    return {call: each.mean(dim=0, keepdim=True) for call, each in found.items()}
