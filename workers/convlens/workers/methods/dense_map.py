"""Dense map: the score of a class at every place of a picture larger than the network's input."""

from dataclasses import dataclass

from torch import Tensor

from convlens.v1 import explanation_methods_pb2 as methods
from convlens.workers.dense import Dense
from convlens.workers.runner import Pass, Steps


@dataclass(frozen=True)
class DenseMapResult:
    """The map [rows, columns], and how it lies on the picture, in its pixels.

    A place stands for a crop of `crop` (height, width); that of the first one lies in the upper
    left corner, those of neighbours are `stride` (vertically, horizontally) apart.
    """

    map: Tensor
    stride: tuple[int, int]
    crop: tuple[int, int]

    @property
    def box(self) -> tuple[float, float, float, float]:
        """What the map covers (x0, y0, x1, y1), each place drawn around the middle of its crop."""
        (height, width), (down, across) = self.crop, self.stride
        rows, columns = self.map.shape
        left, top = (width - across) / 2, (height - down) / 2
        return left, top, left + columns * across, top + rows * down


def dense_map(x: Tensor, target: int, p: methods.DenseMap, body: Dense) -> Steps[DenseMapResult]:
    """The score of the class `target` at every place of x [channels, height, width], or its
    probability there.

    `body` is the network, fully convolutional, at the size of x. Long et al. 2014,
    arXiv:1411.4038, section 3.1; Sermanet et al. 2013, arXiv:1312.6229, section 3.5.
    """
    answer = yield Pass(x[None], body=body)
    scores = answer.scores[0].softmax(dim=0) if p.probabilities else answer.scores[0]
    return DenseMapResult(scores[target], body.whole.step, body.whole.input)
