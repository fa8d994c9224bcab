"""What explanations need to know of a network, found out once."""

from functools import cached_property

from convlens.contract import ErrorReason, Failure
from convlens.v1 import feature_pb2
from convlens.workers.images import Limits
from convlens.workers.network import ServedNetwork
from convlens.workers.selection import Layers


class Subject:
    """A network that is explained."""

    def __init__(self, network: ServedNetwork) -> None:
        self.network = network
        self.limits = Limits()
        facts = network.facts
        self.reference = f"{facts.name}@{facts.version}"

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of its input: channels, height, width."""
        size = self.network.facts.input
        return size.channels, size.height, size.width

    @cached_property
    def layers(self) -> Layers:
        """Its layers by name."""
        return Layers(self.network)

    def call(self, layer: str) -> int:
        """The call that a layer's output comes from.

        Raises Failure LAYER_NOT_FOUND with the nearest names, or LAYER_NOT_APPLICABLE.
        """
        return self.layers.select(feature_pb2.LayerSelection(layer=layer)).call

    def unfit(self, method: str, detail: str) -> Failure:
        """What a caller is told whose method does not apply to this network."""
        reason = ErrorReason.ERROR_REASON_METHOD_NOT_APPLICABLE
        return Failure(reason, method=method, network=self.reference, detail=detail)
