"""Which network a request means, and NetworkService."""

from collections.abc import Sequence

from convlens.contract import ErrorReason, Failure
from convlens.server.rpc import Call
from convlens.v1.network_pb2 import (
    GetNetworkRequest,
    GetNetworkResponse,
    ListNetworksRequest,
    ListNetworksResponse,
    Network,
    NetworkSummary,
)


class Networks:
    """The served networks by name and by "name@version"; answers NetworkService."""

    def __init__(self, networks: Sequence[Network], default: str) -> None:
        """Takes the first network as default where `default` is empty; raises Failure otherwise."""
        self._networks = sorted(networks, key=lambda network: (network.name, network.version))
        self._default = networks[0]
        if default:
            self._default = self.resolve(default)

    def resolve(self, reference: str) -> Network:
        """The network that a request names; raises Failure NETWORK_NOT_FOUND."""
        if not reference:
            return self._default
        for network in self._networks:
            if reference in (network.name, f"{network.name}@{network.version}"):
                return network
        names = ", ".join(f"{network.name}@{network.version}" for network in self._networks)
        raise Failure(
            ErrorReason.ERROR_REASON_NETWORK_NOT_FOUND, network=repr(reference), served=names
        )

    async def list(
        self, call: Call, request: ListNetworksRequest, body: bytes
    ) -> ListNetworksResponse:
        """ListNetworks."""
        del call, request, body
        return ListNetworksResponse(networks=[self._summary(network) for network in self._networks])

    async def get(self, call: Call, request: GetNetworkRequest, body: bytes) -> GetNetworkResponse:
        """GetNetwork."""
        del call, body
        return GetNetworkResponse(network=self.resolve(request.network))

    def _summary(self, network: Network) -> NetworkSummary:
        return NetworkSummary(
            name=network.name,
            version=network.version,
            kind=network.kind,
            classes=len(network.labels),
            is_default=network is self._default,
        )
