"""The success nearest to the picture, for attacks that look for the smallest change."""

import math

import torch
from torch import Tensor

from convlens.workers.attacks.attempt import Best, Task
from convlens.workers.runner import Steps


class Nearest(Best):
    """Keeps the success with the shortest change; before there is one, what leads most."""

    def __init__(self, task: Task) -> None:
        super().__init__(task.x)
        #: Euclidean, of the nearest success.
        self.distance = float("inf")
        self._task = task

    def consider(self, pixels: Tensor, scores: Tensor, distance: float) -> Steps[bool]:
        """Whether pixels [channels, height, width] with scores [classes] are a success.

        `distance` is the length of their change. Nearer ones are kept.
        """
        success = yield from self._task.accepts(pixels, scores)
        if success:
            self.distance = min(distance, self.distance)
            self.offer(pixels, True, -distance)
        else:
            self.offer(pixels, False, float(self._task.aim.lead(scores[None])))
        return success


def length_of(change: Tensor) -> float:
    """Euclidean length over all values, in the precision of the change."""
    flat = change.flatten()
    return math.sqrt(float(torch.dot(flat, flat)))
