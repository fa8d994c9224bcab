"""What a request is about: a picture as it was sent, and as the network takes it."""

from dataclasses import dataclass

from torch import Tensor

from convlens.contract import check
from convlens.v1 import network_pb2
from convlens.v1.image_pb2 import Image
from convlens.workers.images import Limits, Pixels, Prepared, prepare, read_image, read_vector
from convlens.workers.network import ServedNetwork


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Picture:
    """A picture as it was sent, and where in it the network's input lies."""

    pixels: Pixels
    prepared: Prepared

    @property
    def x(self) -> Tensor:
        """The network's input, float32 [channels, height, width] in [0, 1].

        For a network of kind linear it is a vector, [1, 1, features], without bounds.
        """
        return self.prepared.tensor


def read_picture(image: Image, network: ServedNetwork, limits: Limits) -> Picture:
    """The picture of an image in a request; raises Failure where it is none."""
    check(image)
    facts = network.facts
    if facts.kind == network_pb2.NETWORK_KIND_LINEAR:
        x = read_vector(image, facts.input)
        return Picture(Pixels(x), Prepared(x, 1, facts.input.width, (0, 0, facts.input.width, 1)))
    pixels = read_image(image, limits, facts.input)
    return Picture(pixels, prepare(pixels, facts.input, image.geometry, facts.name))
