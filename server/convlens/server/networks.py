"""Which network a request means, and NetworkService."""

import hashlib
from collections.abc import Sequence

from convlens.contract import ErrorReason, Failure
from convlens.server.engine import Engine, not_loadable
from convlens.server.rpc import Call
from convlens.v1.network_pb2 import (
    GetNetworkRequest,
    GetNetworkResponse,
    ListNetworksRequest,
    ListNetworksResponse,
    LoadNetworkRequest,
    LoadNetworkResponse,
    Network,
    NetworkSummary,
    UnloadNetworkRequest,
    UnloadNetworkResponse,
)


class Networks:
    """The served networks by name and by "name@version"; answers NetworkService.

    `default` answers where a request names no network; empty, it is the engine's first.
    """

    def __init__(self, engine: Engine, default: str, loading: bool) -> None:
        self._engine = engine
        self._default = default
        self._loading = loading

    def resolve(self, reference: str, request_id: str) -> Network:
        """The network that a request names; raises Failure NETWORK_NOT_FOUND.

        Where only the name is given, the versions get their shares of the requests by weight; one
        request id always gets the same version.
        """
        networks = self._engine.networks()
        wanted = reference or self._default or (networks[0].name if networks else "")
        name, _, version = wanted.partition("@")
        found = [network for network in networks if network.name == name]
        if version:
            found = [network for network in found if network.version == version]
        if not found:
            raise self._unknown(wanted, networks)
        return found[0] if len(found) == 1 else _by_weight(found, request_id)

    def _unknown(self, wanted: str, networks: Sequence[Network]) -> Failure:
        served = ", ".join(f"{network.name}@{network.version}" for network in networks)
        return Failure(
            ErrorReason.ERROR_REASON_NETWORK_NOT_FOUND, network=repr(wanted), served=served
        )

    async def list(
        self, call: Call, request: ListNetworksRequest, body: bytes
    ) -> ListNetworksResponse:
        """ListNetworks."""
        del request, body
        default = self.resolve("", call.request_id).name
        networks = sorted(self._engine.networks(), key=lambda entry: (entry.name, entry.version))
        return ListNetworksResponse(networks=[_summary(entry, default) for entry in networks])

    async def get(self, call: Call, request: GetNetworkRequest, body: bytes) -> GetNetworkResponse:
        """GetNetwork."""
        del body
        return GetNetworkResponse(network=self.resolve(request.network, call.request_id))

    async def load(
        self, call: Call, request: LoadNetworkRequest, body: bytes
    ) -> LoadNetworkResponse:
        """LoadNetwork."""
        del call, body
        name, version = self._entry(request.network)
        weight = request.traffic_weight if request.HasField("traffic_weight") else None
        return LoadNetworkResponse(network=await self._engine.load(name, version, weight))

    async def unload(
        self, call: Call, request: UnloadNetworkRequest, body: bytes
    ) -> UnloadNetworkResponse:
        """UnloadNetwork."""
        del call, body
        await self._engine.unload(*self._entry(request.network))
        return UnloadNetworkResponse()

    def _entry(self, reference: str) -> tuple[str, str]:
        name, _, version = reference.partition("@")
        if not self._loading:
            raise not_loadable(name, version or "?", "loading is off (setting: loading)")
        return name, version or "1"


def _by_weight(networks: Sequence[Network], request_id: str) -> Network:
    """One of several versions; all alike where no weight is above 0."""
    weights = [network.traffic_weight for network in networks]
    if not any(weights):
        weights = [1.0] * len(networks)
    digest = hashlib.blake2b(request_id.encode(), digest_size=8).digest()
    point = int.from_bytes(digest, "little") / 2**64 * sum(weights)
    for network, weight in zip(networks, weights, strict=True):
        point -= weight
        if point < 0:
            return network
    return networks[-1]


def _summary(network: Network, default: str) -> NetworkSummary:
    return NetworkSummary(
        name=network.name,
        version=network.version,
        kind=network.kind,
        classes=len(network.labels),
        is_default=network.name == default,
        traffic_weight=network.traffic_weight,
    )
