"""Fooling images by evolution of their pixels."""

from collections.abc import Sequence

from convlens.v1 import synthesis_methods_pb2 as methods
from convlens.workers.runner import Steps
from convlens.workers.synthesizers.growth import Growth
from convlens.workers.synthesizers.task import Task


def fooling_direct(
    task: Task, targets: Sequence[int], confidence: float, p: methods.FoolingDirect
) -> Steps[Growth]:
    """Not built yet."""
    raise NotImplementedError
