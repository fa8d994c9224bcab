"""The RPCs of convlens.v1 as the server sees them: paths, message types, streaming."""

from collections.abc import Mapping
from dataclasses import dataclass

from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from convlens.contract import ErrorReason, Failure
from convlens.v1 import (
    adversarial_pb2,
    classification_pb2,
    explanation_pb2,
    feature_pb2,
    network_pb2,
    synthesis_pb2,
)

FILES = (
    adversarial_pb2,
    classification_pb2,
    explanation_pb2,
    feature_pb2,
    network_pb2,
    synthesis_pb2,
)


@dataclass(frozen=True)
class Rpc:
    """One RPC of the contract."""

    path: str
    name: str
    service: str
    request: type[Message]
    response: type[Message]
    streams_in: bool
    streams_out: bool

    def decode(self, body: bytes) -> Message:
        """The request, not yet checked; raises Failure MALFORMED_MESSAGE."""
        try:
            return self.request.FromString(body)
        except DecodeError:
            raise Failure(
                ErrorReason.ERROR_REASON_MALFORMED_MESSAGE,
                message=self.request.DESCRIPTOR.full_name,
            ) from None


def _rpc(method: MethodDescriptor) -> Rpc:
    service = method.containing_service.full_name
    return Rpc(
        path=f"/{service}/{method.name}",
        name=f"{method.containing_service.name}/{method.name}",
        service=service,
        request=GetMessageClass(method.input_type),
        response=GetMessageClass(method.output_type),
        streams_in=method.client_streaming,
        streams_out=method.server_streaming,
    )


def _all_rpcs() -> dict[str, Rpc]:
    services = (s for file in FILES for s in file.DESCRIPTOR.services_by_name.values())
    rpcs = (_rpc(method) for service in services for method in service.methods)
    return {rpc.path: rpc for rpc in rpcs}


RPCS: Mapping[str, Rpc] = _all_rpcs()
