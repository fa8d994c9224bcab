"""What of a picture is attacked: the network's input, or the picture as it was sent."""

from dataclasses import dataclass

from torch import Tensor

from convlens.v1.image_pb2 import Image
from convlens.workers.adversarial.encoding import png
from convlens.workers.adversarial.resizing import original, resizing_of
from convlens.workers.adversarial.rounding import floats
from convlens.workers.body import Body
from convlens.workers.images import Limits
from convlens.workers.network import ServedNetwork
from convlens.workers.pictures import Picture, read_picture


@dataclass(frozen=True, eq=False)
class View:
    """The pixels x [channels, height, width] that may change, and what they go through, if more
    than the network.
    """

    x: Tensor
    body: Body | None = None

    def sent(self, picture: Tensor) -> Tensor:
        """The network's input where a picture, uint8, is sent in the place of x."""
        return floats(picture)


@dataclass(frozen=True, eq=False)
class Original(View):
    """The picture as it was sent; what is sent again is resized in 8 bits, as any other."""

    network: ServedNetwork | None = None
    limits: Limits | None = None

    @classmethod
    def of(cls, picture: Picture, network: ServedNetwork, limits: Limits) -> "Original":
        """Raises Failure where the picture cannot be attacked so."""
        body = resizing_of(picture, network)
        return cls(original(picture.pixels).to(network.device), body, network, limits)

    def sent(self, picture: Tensor) -> Tensor:
        """Through the file, as the caller would send it."""
        assert self.network and self.limits
        return read_picture(Image(encoded=png(picture)), self.network, self.limits).x
