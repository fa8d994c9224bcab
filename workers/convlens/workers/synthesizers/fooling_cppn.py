"""Fooling images by evolution of pattern-producing networks."""

from collections.abc import Sequence

from convlens.v1 import synthesis_methods_pb2 as methods
from convlens.workers.runner import Steps
from convlens.workers.synthesizers.growth import Growth
from convlens.workers.synthesizers.task import Task


def fooling_cppn(
    task: Task, targets: Sequence[int], confidence: float, p: methods.FoolingCppn
) -> Steps[Growth]:
    """Not built yet."""
    raise NotImplementedError
