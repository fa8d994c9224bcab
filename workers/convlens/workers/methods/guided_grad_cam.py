"""Guided Grad-CAM: the detail of guided backprop where Grad-CAM points."""

from torch import Tensor

from convlens.v1 import explanation_methods_pb2 as methods
from convlens.workers.methods.grad_cam import grad_cam
from convlens.workers.methods.reductions import reduced
from convlens.workers.rectifiers import Rule
from convlens.workers.runner import Objective, Pass, Steps


def guided_grad_cam(
    x: Tensor, score: Objective, p: methods.GuidedGradCam, call: int
) -> Steps[Tensor]:
    """Guided backprop times Grad-CAM at x [channels, height, width], as a map [height, width].

    `call` is the layer of Grad-CAM, whose gradient is the plain one. Selvaraju et al. 2016,
    arXiv:1610.02391, section 3.2.
    """
    plain = methods.GradCam(relu=True, interpolation=p.interpolation)
    places = yield from grad_cam(x, score, plain, call)
    guided = yield Pass(x[None], score, rule=Rule.GUIDED)
    return reduced(guided.slope[0] * places.map, p.reduction)
