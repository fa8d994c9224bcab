"""Saliency: where a small change of a pixel changes the score most."""

from torch import Tensor

from convlens.v1 import explanation_methods_pb2 as methods
from convlens.workers.methods.reductions import reduced
from convlens.workers.runner import Objective, Pass, Steps


def saliency(x: Tensor, score: Objective, p: methods.Saliency) -> Steps[Tensor]:
    """The gradient of the score at x [channels, height, width], as a map [height, width].

    Simonyan et al. 2013, arXiv:1312.6034, section 3.1.
    """
    answer = yield Pass(x[None], score)
    return reduced(answer.slope[0], p.reduction)
