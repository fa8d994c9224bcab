"""Input x Gradient: what each pixel adds to the score, to first order."""

from torch import Tensor

from convlens.v1 import explanation_methods_pb2 as methods
from convlens.workers.methods.reductions import reduced
from convlens.workers.runner import Objective, Pass, Steps


def input_x_gradient(x: Tensor, score: Objective, p: methods.InputXGradient) -> Steps[Tensor]:
    """The gradient of the score times x [channels, height, width], as a map [height, width].

    Shrikumar et al. 2016, arXiv:1605.01713, section 3.
    """
    answer = yield Pass(x[None], score)
    return reduced(x * answer.slope[0].to(x.device), p.reduction)
