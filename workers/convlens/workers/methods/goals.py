"""What of a network's outputs is explained."""

from dataclasses import dataclass

from torch import Tensor

from convlens.workers.runner import Objective, Outputs


@dataclass(frozen=True, slots=True)
class Score:
    """S_c, the score of a class before the softmax, at each point."""

    target: int

    def __call__(self, outputs: Outputs) -> Tensor:
        return outputs.scores[:, self.target]


@dataclass(frozen=True, slots=True)
class BestScore:
    """The score of the class that each point's own answer is."""

    def __call__(self, outputs: Outputs) -> Tensor:
        return outputs.scores.max(dim=1).values


def score_of(target: int) -> Objective:
    """The score of a class; for the same class twice, they are equal."""
    return Score(target)
