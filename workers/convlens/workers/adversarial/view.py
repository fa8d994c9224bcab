"""What of a picture is attacked: the network's input, or the picture as it was sent."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from google.protobuf.message import Message
from torch import Tensor

from convlens.contract.validation import Violation, invalid
from convlens.v1 import network_pb2
from convlens.v1.image_pb2 import Image
from convlens.workers.adversarial.resizing import original, resizing_of
from convlens.workers.adversarial.rounding import floats, rounded
from convlens.workers.attacks.budget import Budget
from convlens.workers.body import Body
from convlens.workers.images import Limits
from convlens.workers.images.encoding import png
from convlens.workers.network import ServedNetwork
from convlens.workers.pictures import Picture, read_picture


@dataclass(frozen=True, eq=False)
class View:
    """The pixels x [channels, height, width] that may change, and what they go through, if more
    than the network.
    """

    #: Its values are plain numbers without bounds, of which no file is a picture.
    is_vector: ClassVar[bool] = False

    x: Tensor
    body: Body | None = None

    @classmethod
    def of_input(cls, picture: Picture, network: ServedNetwork) -> "View":
        """The network's input."""
        kind = Vector if network.facts.kind == network_pb2.NETWORK_KIND_LINEAR else View
        return kind(picture.x.to(network.device))

    def rounded(self, pixels: Tensor, budget: Budget | None) -> Tensor | None:
        """The nearest 8-bit picture to pixels, uint8; None where none is allowed."""
        return rounded(pixels, budget)

    def sent(self, picture: Tensor) -> Tensor:
        """The network's input where a picture, uint8, is sent in the place of x."""
        return floats(picture)


@dataclass(frozen=True, eq=False)
class Vector(View):
    """Plain numbers [1, 1, features], as a network of kind linear takes them."""

    is_vector = True

    def rounded(self, pixels: Tensor, budget: Budget | None) -> Tensor | None:
        """There is none."""
        return None


def check_fields(
    asked: Message, fields: Sequence[str], network: ServedNetwork, path: str = ""
) -> None:
    """Raises Failure INVALID_REQUEST where fields that only pictures have are set for vectors.

    `path` is what stands before their names.
    """
    facts = network.facts
    if facts.kind != network_pb2.NETWORK_KIND_LINEAR:
        return
    words = f"is for pictures, and {facts.name}@{facts.version} takes plain numbers; leave it out"
    if wrong := [
        Violation(field=path + each, description=words) for each in fields if getattr(asked, each)
    ]:
        raise invalid(wrong)


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
