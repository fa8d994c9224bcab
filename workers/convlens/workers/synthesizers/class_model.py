"""The class model: the picture that scores highest for a class."""

from convlens.v1 import synthesis_methods_pb2 as methods
from convlens.workers.methods.goals import score_of
from convlens.workers.runner import Steps
from convlens.workers.synthesizers.ascent import Wish, ascend
from convlens.workers.synthesizers.growth import Growth
from convlens.workers.synthesizers.task import Task


def class_model(task: Task, target: int, p: methods.ClassModel) -> Steps[Growth]:
    """argmax of S_c(I) - l2_weight * |I - mean|^2, less what other priors are asked for.

    S_c is the score of the class `target` before the softmax: its probability could rise by lower
    scores of others. The picture is told with both. Simonyan et al. 2013, arXiv:1312.6034,
    section 2.
    """
    return (yield from ascend(task, Wish("score", score_of(target), target), p))
