"""A network made fully convolutional, and that network at one size of picture."""

import logging
from dataclasses import dataclass, field
from math import prod
from threading import Lock
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from convlens.contract import ErrorReason, Failure
from convlens.workers import teams
from convlens.workers.anatomy import Trace
from convlens.workers.body import Body
from convlens.workers.dense.growth import grown
from convlens.workers.dense.seam import Seam, find_seam, layer_of
from convlens.workers.dense.windows import Convolved, grid
from convlens.workers.raised import is_out_of_memory

log = logging.getLogger(__name__)

# A picture of so many inputs takes about the memory of so many rows, beside which there are the
# windows of the maps, for whose bytes there is a limit of their own.
INPUTS = 16
WINDOWS_BYTES = 2**28
# Of the largest score: bfloat16 and TF32 round that far where shapes differ.
TOLERANCE = 0.05

_seams: WeakKeyDictionary[Body, Seam] = WeakKeyDictionary()
_looking = Lock()


@dataclass(frozen=True)
class FullyConvolutional:
    """A network whose fully connected layers are convolutions, for pictures from its input on.

    A place of the map that it gives stands for a crop of the size of the network's input; the first
    one lies in the upper left corner, and neighbours are `step` pixels apart.

    The score there is that of the crop, but for padding: in the crop the network pads with zeros
    where the larger picture has pixels (Sermanet et al. 2013, arXiv:1312.6229; Long et al. 2014,
    arXiv:1411.4038). Where it does not pad, they are the same.
    """

    network: Body
    seam: Seam

    @property
    def input(self) -> tuple[int, int]:
        """Height and width of the network's input: the crop that a place stands for."""
        _, height, width = self.network.trace.image
        return height, width

    @property
    def step(self) -> tuple[int, int]:
        """Pixels from a place to the one below, and to the one on the right."""
        return self.seam.step

    @property
    def most_places(self) -> int:
        """No picture that fits has more places."""
        return INPUTS * prod(self.input) // prod(self.step)

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of places in a picture; none where it is smaller than the input."""
        return grid(self.network.trace, self.seam, height, width)

    def fits(self, height: int, width: int) -> bool:
        """Whether memory is planned for a picture of this size."""
        seen = self.seam.shape[:1] if self.seam.averaged else self.seam.shape
        windows = prod(self.grid(height, width)) * prod(seen) * torch.float32.itemsize
        return height * width <= INPUTS * prod(self.input) and windows <= WINDOWS_BYTES

    def at(self, height: int, width: int) -> "Dense":
        """The network for pictures of one size; made for the same size twice, they are equal."""
        if min(self.grid(height, width)) < 1:
            raise ValueError(f"{height} x {width} pixels are less than the network's input")
        network, seam = self.network, self.seam
        return Dense(
            self,
            height,
            width,
            Convolved(network.module, network.trace, seam),
            grown(network.trace, seam, height, width),
        )


@dataclass(frozen=True)
class Dense:
    """A fully convolutional network at one size of picture: a Body with scores for every place.

    `module` gives scores [n, classes, rows, columns] of pixels. `trace` has the network's calls,
    with the shapes that they have at this size. What cuts the windows of the maps is not in it, so
    that nothing behind them can be captured.
    """

    whole: FullyConvolutional
    height: int
    width: int
    module: nn.Module = field(compare=False, repr=False)
    trace: Trace = field(compare=False, repr=False)

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.whole.network.device

    def place(self, pixels: Tensor) -> Tensor:
        """A copy of pixels on the device, in the layout in which it computes."""
        return self.whole.network.place(pixels)

    def scores(self, pixels: Tensor) -> Tensor:
        """Scores before the softmax [n, classes, rows, columns], with their graph."""
        return self.module(pixels)


def fully_convolutional(network: Body, name: str) -> FullyConvolutional:
    """Makes a network fully convolutional; `name` is what errors call it. Writes nothing to it.

    The first time it is tried out, which takes three forward passes. Raises Failure
    LAYER_NOT_APPLICABLE, naming the layer in the way, where it is no chain of convolutions and
    poolings that ends in fully connected layers or in the mean over each map.
    """
    with _looking:
        if network not in _seams:
            found = FullyConvolutional(network, find_seam(network.trace, name))
            _try_out(found, name)
            _seams[network] = found.seam
        return FullyConvolutional(network, _seams[network])


def _try_out(found: FullyConvolutional, name: str) -> None:
    """Raises Failure where the network's own code does not go along with it."""
    try:
        with teams.together():
            reason = _fault(found)
    except Exception as error:
        if is_out_of_memory(error):
            raise
        log.info("not fully convolutional: %s", error)
        reason = f"the network takes pictures of its own size alone ({error})"
    if reason:
        trace = found.network.trace
        layer = layer_of(trace, found.seam.maps + 1)
        raise Failure(
            ErrorReason.ERROR_REASON_LAYER_NOT_APPLICABLE, layer=layer, network=name, detail=reason
        )


@torch.no_grad()
def _fault(found: FullyConvolutional) -> str:
    """What is wrong at the network's own size, or one place beyond it."""
    network, (height, width) = found.network, found.input
    larger = height + found.step[0], width + found.step[1]
    generator = torch.Generator().manual_seed(0)
    pixels = network.place(torch.rand(1, network.trace.image[0], *larger, generator=generator))
    own = pixels[..., :height, :width].clone(memory_format=torch.preserve_format)
    scores: Tensor = network.module(own)
    dense = found.at(height, width).scores(own)[..., 0, 0]
    if float((dense - scores).abs().max()) > TOLERANCE * float(scores.abs().max()):
        return "made fully convolutional, the network gives other scores"
    found.at(*larger).scores(pixels)
    return ""
