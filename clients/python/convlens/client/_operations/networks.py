"""Operations on the server itself: its networks, their anatomy, its health."""

# Kept as written, so that help() shows names and not what they stand for.
from __future__ import annotations

from grpc_health.v1 import health_pb2

from convlens.client import _results
from convlens.client._operations.base import Operation, message_of
from convlens.client._results import Health, Network, NetworkSummary, PretrainedWeights
from convlens.client._transport import Settings
from convlens.v1 import classification_pb2, feature_pb2, network_pb2

NETWORK = "/convlens.v1.NetworkService"
# Those that the clients call.
SERVICES = [
    service.full_name
    for file in (classification_pb2, feature_pb2, network_pb2)
    for service in file.DESCRIPTOR.services_by_name.values()
]


def networks(_: Settings, *, timeout: float | None = None) -> Operation[list[NetworkSummary]]:
    """Lists the served networks, by name and version. `timeout` is in seconds."""

    def decode(data: bytes, _: str) -> list[NetworkSummary]:
        response = network_pb2.ListNetworksResponse.FromString(data)
        return [_results.network_summary(entry) for entry in response.networks]

    return Operation(f"{NETWORK}/ListNetworks", network_pb2.ListNetworksRequest(), decode, timeout)


def network(_: Settings, name: str = "", *, timeout: float | None = None) -> Operation[Network]:
    """Describes one network: labels, input, accuracy, layers.

    `name` is "name" or "name@version"; empty for the server's default. `timeout` is in seconds.
    Raises NotFound where no such network is served.
    """

    def decode(data: bytes, _: str) -> Network:
        return _results.network(network_pb2.GetNetworkResponse.FromString(data).network)

    request = message_of(network_pb2.GetNetworkRequest, network=name)
    return Operation(f"{NETWORK}/GetNetwork", request, decode, timeout)


def pretrained(
    _: Settings, name_contains: str = "", *, timeout: float | None = None
) -> Operation[list[PretrainedWeights]]:
    """Lists the pretrained weights that networks.yaml may name, by network and weights.

    They are those of the torchvision that the server's workers have. `name_contains` leaves only
    the networks whose name contains it. `timeout` is in seconds.
    """

    def decode(data: bytes, _: str) -> list[PretrainedWeights]:
        response = network_pb2.ListPretrainedResponse.FromString(data)
        return [_results.pretrained_weights(entry) for entry in response.weights]

    request = message_of(network_pb2.ListPretrainedRequest, name_contains=name_contains)
    return Operation(f"{NETWORK}/ListPretrained", request, decode, timeout)


def health(_: Settings, service: str = "", *, timeout: float | None = None) -> Operation[Health]:
    """Asks whether the server answers, or one service of it ("convlens.v1.NetworkService").

    `timeout` is in seconds. Raises NotFound where the server has no such service, and Unavailable
    where there is no server.
    """

    def decode(data: bytes, _: str) -> Health:
        status = health_pb2.HealthCheckResponse.FromString(data).status
        return {1: Health.SERVING, 2: Health.NOT_SERVING}.get(status, Health.UNKNOWN)

    request = message_of(health_pb2.HealthCheckRequest, service=service)
    missing = f"no service {service!r}; ask for one of {', '.join(SERVICES)}, or leave it out"
    return Operation("/grpc.health.v1.Health/Check", request, decode, timeout, missing)
