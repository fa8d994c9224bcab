"""The RPCs of the contract, and calls of them that are ready to be sent."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from convlens.v1 import (
    adversarial_pb2,
    classification_pb2,
    explanation_pb2,
    feature_pb2,
    network_pb2,
    synthesis_pb2,
)

Kind = Literal["unary", "server_stream", "stream"]
MODULES = (
    *(adversarial_pb2, classification_pb2, explanation_pb2, feature_pb2, network_pb2),
    synthesis_pb2,
)
METHODS: dict[str, MethodDescriptor] = {
    method.name: method
    for module in MODULES
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}


@dataclass(frozen=True, slots=True)
class Prepared:
    """A call that is ready to be sent; each of `variants` is the messages of one request."""

    name: str
    rpc: str
    path: str
    kind: Kind
    variants: Sequence[Sequence[bytes]]
    deadline: float
    #: Empty where its tenant's holds.
    priority: str

    @property
    def bytes_of_one(self) -> float:
        """The mean size of a request."""
        return sum(len(part) for each in self.variants for part in each) / len(self.variants)


def response_kind(rpc: str) -> type[Message]:
    """The message that answers an RPC."""
    return GetMessageClass(METHODS[rpc].output_type)
