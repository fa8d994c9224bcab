"""What of a network's outputs is explained."""

from torch import Tensor

from convlens.workers.runner import Objective, Outputs


def score_of(target: int) -> Objective:
    """S_c, the score of a class before the softmax, at each point."""

    def score(outputs: Outputs) -> Tensor:
        return outputs.scores[:, target]

    return score
