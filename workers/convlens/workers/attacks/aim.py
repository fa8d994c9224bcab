"""Where an attack leads, and what it drives up to get there."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from convlens.workers.runner import Outputs


@dataclass(frozen=True, slots=True)
class Aim:
    """Away from the class `original`; to `target` where there is one, else anywhere.

    Its losses are objectives that an attack drives up.
    """

    original: int
    target: int | None = None

    def reached(self, scores: Tensor) -> Tensor:
        """For scores [n, classes], which rows are there [n]; a tie is not."""
        return self.lead(scores) > 0

    def lead(self, scores: Tensor) -> Tensor:
        """How far, for scores [n, classes], the wanted class leads all others [n]; less than 0
        where it does not.

        Without a target it is the best of the other classes, before the original one.
        """
        if self.target is None:
            return _others(scores, self.original).amax(dim=1) - scores[:, self.original]
        return scores[:, self.target] - _others(scores, self.target).amax(dim=1)

    def margin(self, outputs: Outputs) -> Tensor:
        """The lead, as a loss."""
        return self.lead(outputs.scores)

    def cross_entropy(self, outputs: Outputs) -> Tensor:
        """Minus the log-probability of the original class, or plus that of the target."""
        logs = F.log_softmax(outputs.scores, dim=1)
        return -logs[:, self.original] if self.target is None else logs[:, self.target]

    def dlr(self, outputs: Outputs) -> Tensor:
        """The difference of logits ratio, which no scale of the scores changes [n].

        Needs three classes, with a target four. Croce & Hein 2020, arXiv:2003.01690, section 4.
        """
        scores = outputs.scores
        ordered = scores.sort(dim=1, descending=True).values
        if self.target is None:
            width = ordered[:, 0] - ordered[:, 2]
            return self.lead(scores) / width.clamp_min(_TINY)
        width = ordered[:, 0] - (ordered[:, 2] + ordered[:, 3]) / 2
        return (scores[:, self.target] - scores[:, self.original]) / width.clamp_min(_TINY)


# Where scores are all the same, so that nothing is divided by 0.
_TINY = 1e-12


def _others(scores: Tensor, index: int) -> Tensor:
    """The scores [n, classes] without those of one class."""
    return torch.cat([scores[:, :index], scores[:, index + 1 :]], dim=1)
