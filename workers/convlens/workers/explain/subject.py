"""What explanations need to know of a network, found out once."""

from functools import cached_property

from convlens.contract import ErrorReason, Failure
from convlens.v1 import feature_pb2
from convlens.workers.anatomy import Unsteady
from convlens.workers.anatomy.bottleneck import last_bottleneck
from convlens.workers.anatomy.fields import Map, maps
from convlens.workers.dense import FullyConvolutional, fully_convolutional
from convlens.workers.images import Limits
from convlens.workers.incremental import ROOM, Incremental
from convlens.workers.methods.maps import MapLayer
from convlens.workers.network import ServedNetwork
from convlens.workers.quality import Variants
from convlens.workers.rectifiers import Rule
from convlens.workers.rectifiers.inspection import Verdict, inspect
from convlens.workers.selection import Layers, Selected

UNSTEADY = "it makes other calls for other pictures"


class Subject:
    """A network that is explained; threads may share it."""

    def __init__(self, network: ServedNetwork, room: int = ROOM) -> None:
        """`room` bytes are for what sweeps over pictures keep of them."""
        self.network = network
        self.limits = Limits()
        facts = network.facts
        self.reference = f"{facts.name}@{facts.version}"
        #: Copies of it with weights drawn anew.
        self.variants = Variants(network)
        #: Plans sweeps that compute only what a window changes.
        self.incremental = Incremental(network, network.steady, room=room)
        self._verdicts: dict[tuple[Rule, int | None], Verdict] = {}

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of its input: channels, height, width."""
        size = self.network.facts.input
        return size.channels, size.height, size.width

    @cached_property
    def layers(self) -> Layers:
        """Its layers by name."""
        return Layers(self.network)

    @cached_property
    def _maps(self) -> list[Map | None]:
        return maps(self.network.trace)

    @cached_property
    def _last_bottleneck(self) -> str | None:
        return last_bottleneck(self.network.trace) if self.network.steady else None

    def layer(self, name: str) -> Selected:
        """A layer whose output can be read, with its call and the axes of its maps.

        Raises Failure LAYER_NOT_FOUND with the nearest names, or LAYER_NOT_APPLICABLE.
        """
        return self.layers.select(feature_pb2.LayerSelection(layer=name))

    def map_layer(self, name: str) -> MapLayer:
        """A layer of maps [maps, height, width] or a vector; raises as `layer` does."""
        selected = self.layer(name)
        place = self._maps[selected.call]
        fields = place.fields if place and selected.axes else None
        shape = selected.output.shape
        return MapLayer(selected.call, shape, fields, self.reference, selected.name)

    def grad_cam_layer(self, method: str, name: str) -> Selected:
        """The layer that Grad-CAM looks at: the named one, or the last bottleneck with places.

        Raises Failure, as `layer` does, and METHOD_NOT_APPLICABLE where there is no default.
        """
        if name:
            selected = self.layer(name)
            if selected.axes != (-2, -1) or len(selected.output.shape) != 3:
                shape = list(selected.output.shape)
                detail = f"its output {shape} is no maps [maps, rows, columns]; choose such a layer"
                raise self.layers.unfit(selected.name, detail)
            return selected
        if self._last_bottleneck is None:
            detail = (
                UNSTEADY
                if not self.network.steady
                else (
                    "it has no maps through which all of the answer passes; name a layer with maps"
                )
            )
            raise self.unfit(method, detail)
        return self.layer(self._last_bottleneck)

    def default_layer(self) -> Selected | None:
        """The layer that Grad-CAM looks at by default, if there is one."""
        return self.layer(self._last_bottleneck) if self._last_bottleneck else None

    def rectified(self, method: str, rule: Rule, upto: int | None) -> tuple[str, ...]:
        """What a reader of maps under a rule must know; the rule holds up to the call.

        Raises Failure METHOD_NOT_APPLICABLE that names the layers in its way.
        """
        if not self.network.steady:
            raise self.unfit(method, UNSTEADY)
        if (rule, upto) not in self._verdicts:
            try:
                self._verdicts[rule, upto] = inspect(self.network, rule, upto)
            except Unsteady:
                raise self.unfit(method, UNSTEADY) from None
        verdict = self._verdicts[rule, upto]
        if verdict.obstacles:
            names = ", ".join(verdict.obstacles[:5])
            more = len(verdict.obstacles) - 5
            rest = f" and {more} more" if more > 0 else ""
            raise self.unfit(method, f"it has no rule for {names}{rest}")
        return verdict.notes

    @cached_property
    def dense(self) -> FullyConvolutional:
        """The network made fully convolutional; raises Failure LAYER_NOT_APPLICABLE."""
        return fully_convolutional(self.network, self.reference)

    def check_gradients(self, method: str, instead: str) -> None:
        """Raises Failure METHOD_NOT_APPLICABLE where the network cannot be differentiated.

        `instead` is what needs no gradients.
        """
        if opaque := self.network.opaque:
            raise self.unfit(method, f"it has no gradients: {opaque}; use {instead}")

    def unfit(self, method: str, detail: str) -> Failure:
        """What a caller is told whose method does not apply to this network."""
        reason = ErrorReason.ERROR_REASON_METHOD_NOT_APPLICABLE
        return Failure(reason, method=method, network=self.reference, detail=detail)
