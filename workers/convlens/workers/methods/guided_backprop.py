"""Guided backprop: saliency whose rectifiers pass only what is positive on the way back, too."""

from torch import Tensor

from convlens.v1 import explanation_methods_pb2 as methods
from convlens.workers.methods.reductions import reduced
from convlens.workers.rectifiers import Rule
from convlens.workers.runner import Objective, Pass, Steps


def guided_backprop(x: Tensor, score: Objective, p: methods.GuidedBackprop) -> Steps[Tensor]:
    """The guided gradient of the score at x [channels, height, width], as a map [height, width].

    Springenberg et al. 2014, arXiv:1412.6806, section 3.4.
    """
    answer = yield Pass(x[None], score, rule=Rule.GUIDED)
    return reduced(answer.slope[0], p.reduction)
