"""What ExtractFeatures is to read: layers by name, and how their places are reduced."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from convlens.contract import ErrorReason, Failure
from convlens.contract.validation import Violation, invalid
from convlens.v1 import feature_pb2, tensor_pb2
from convlens.workers.anatomy import INPUT, Node, Removal, Trace, Value, removal
from convlens.workers.anatomy.fields import Map, maps
from convlens.workers.mistakes import nearest
from convlens.workers.network import ServedNetwork

POSITION_BYTES = 2 * torch.int64.itemsize
CNN_CODE, LOGITS = "cnn-code", "logits"
# What has weights of its own and turns a vector into scores.
CLASSIFIERS = frozenset({"linear", "conv2d"})


@dataclass(frozen=True)
class Code:
    """The codes of a batch at one layer: values [n, ...], and where each maximum was [n, c, 2]."""

    values: Tensor
    positions: Tensor | None = None

    def cpu(self) -> "Code":
        """The same in the processor's memory."""
        return Code(self.values.cpu(), None if self.positions is None else self.positions.cpu())

    def of(self, row: int) -> "Code":
        """That of one image, without the first dimension."""
        return Code(self.values[row], None if self.positions is None else self.positions[row])


@dataclass(frozen=True)
class Selected:
    """One layer to read: the call that gives it, and what is done to its output.

    `axes` are its vertical and horizontal axis, from the last; None where it has no maps.
    """

    name: str
    call: int
    output: Value
    axes: tuple[int, int] | None
    pooling: int
    half: bool
    l2_normalize: bool

    def reduce(self, output: Tensor, images: int) -> Code:
        """The codes of `images` images, from what the call gave for all of them."""
        values = self.output.rows(output, images).float()
        positions = None
        if self.pooling in (feature_pb2.POOLING_AVG, feature_pb2.POOLING_MAX):
            assert self.axes
            places = values.movedim(self.axes, (-2, -1))
            if self.pooling == feature_pb2.POOLING_AVG:
                values = places.mean(dim=(-2, -1))
            else:
                values, best = places.flatten(-2).max(dim=-1)
                width = places.shape[-1]
                positions = torch.stack([best // width, best % width], dim=-1)
        elif self.pooling == feature_pb2.POOLING_FLATTEN:
            values = values.flatten(1)
        if self.l2_normalize:
            values = normalize(values.flatten(1), dim=1).view_as(values)
        return Code(values.half() if self.half else values, positions)

    def bytes(self, pooling: int | None = None, half: bool | None = None) -> int:
        """What its code takes for one image, with this pooling and type or other ones."""
        pooling, half = pooling or self.pooling, self.half if half is None else half
        count, number = self.output.size, 2 if half else 4
        if pooling in (feature_pb2.POOLING_AVG, feature_pb2.POOLING_MAX) and self.axes:
            shape = self.output.shape
            count //= shape[self.axes[0]] * shape[self.axes[1]]
        extra = count * POSITION_BYTES if pooling == feature_pb2.POOLING_MAX else 0
        return count * number + extra


class Layers:
    """The layers of one network by name, with the aliases "cnn-code" and "logits"."""

    def __init__(self, network: ServedNetwork) -> None:
        self._reference = f"{network.facts.name}@{network.facts.version}"
        self._trace = network.trace
        self._maps = maps(network.trace)
        #: The layers that stand for others: what "cnn-code" and "logits" are here.
        self.aliases = _aliases(network.trace)
        self._steady = network.steady
        self._names = [name for name in network.trace.nodes if name]

    def select(self, wanted: feature_pb2.LayerSelection) -> Selected:
        """What a request means by a layer.

        Raises Failure LAYER_NOT_FOUND with the nearest names, and LAYER_NOT_APPLICABLE.
        """
        name = self.node(wanted.layer).name
        call = self._readable(name)
        pooling = wanted.pooling or feature_pb2.POOLING_NONE
        place = self._maps[call]
        selected = Selected(
            name=name,
            call=call,
            output=self._trace.calls[call].outputs[0],
            axes=_axes(place, self._trace.calls[call].outputs[0]),
            pooling=pooling,
            half=wanted.dtype == tensor_pb2.DATA_TYPE_FLOAT16,
            l2_normalize=wanted.l2_normalize,
        )
        if selected.axes is None and pooling in (
            feature_pb2.POOLING_AVG,
            feature_pb2.POOLING_MAX,
        ):
            shape = list(selected.output.shape)
            what = "has no maps to pool" if len(shape) < 3 else "is not known to be maps of places"
            raise self.unfit(
                name, f"its output {shape} {what}; ask for POOLING_NONE or POOLING_FLATTEN"
            )
        return selected

    def remove(self, layers: Sequence[str]) -> tuple[Removal, ...]:
        """How a pass goes on without each of the layers.

        Raises Failure LAYER_NOT_FOUND with the nearest names, LAYER_NOT_APPLICABLE, and
        INVALID_REQUEST where one is named twice.
        """
        removed = tuple(self._without(self.node(layer).name) for layer in layers)
        places: dict[str, int] = {}
        for place, each in enumerate(removed):
            if (first := places.setdefault(each.layer, place)) != place:
                words = f"is {each.layer!r}, as removed_layers[{first}] is; name each layer once"
                field = f"removed_layers[{place}]"
                raise invalid([Violation(field=field, description=words)])
        return removed

    def _without(self, name: str) -> Removal:
        try:
            return removal(self._trace, name)
        except ValueError as error:
            words = f"it {error}, and only what takes one tensor and gives one can be removed"
            raise self.unfit(name, words) from None

    def node(self, layer: str) -> Node:
        """What a request means by the name of a layer, whether its output can be read or not.

        Raises Failure LAYER_NOT_FOUND with the nearest names, and LAYER_NOT_APPLICABLE.
        """
        name = self.aliases.get(layer, layer)
        if name not in self._trace.nodes or not name:
            raise Failure(
                ErrorReason.ERROR_REASON_LAYER_NOT_FOUND,
                network=self._reference,
                layer=repr(layer),
                nearest=nearest(layer, [*self._names, *self.aliases]),
            )
        if not self._steady:
            raise self.unfit(name, "the network makes other calls for other pictures")
        return self._trace.nodes[name]

    def _readable(self, name: str) -> int:
        try:
            call = self._trace.call(name)
        except ValueError as error:
            obstacle = str(error).removeprefix(f"{name} ")
            raise self.unfit(name, f"it {obstacle}; choose a layer inside or after it") from None
        if self._trace.calls[call].outputs[0].axis is None:
            raise self.unfit(name, "its output is the same for every picture")
        return call

    def unfit(self, name: str, detail: str) -> Failure:
        """What a caller is told who cannot use a layer so; `detail` is the end of a sentence."""
        reason = ErrorReason.ERROR_REASON_LAYER_NOT_APPLICABLE
        return Failure(reason, network=self._reference, layer=repr(name), detail=detail)


def _axes(place: Map | None, output: Value) -> tuple[int, int] | None:
    """The axes of the maps; a vector has none."""
    if place is None or len(output.shape) < 3:
        return None
    return place.axes


def _aliases(trace: Trace) -> dict[str, str]:
    """The layers that "cnn-code" and "logits" stand for, where the network has them."""
    names = _names_of_calls(trace)
    found: dict[str, str] = {}
    if trace.result is None:
        return found
    if trace.result in names:
        found[LOGITS] = names[trace.result]
    last = _back_to(trace, trace.result, lambda call: trace.calls[call].function in CLASSIFIERS)
    if last is not None:
        before = next((s for s in trace.calls[last].sources if s != INPUT), None)
        if before is not None and before in names:
            found[CNN_CODE] = names[before]
    return found


def _back_to(trace: Trace, start: int, condition: Callable[[int], bool]) -> int | None:
    """The first call on the way back from `start` that meets the condition.

    Where two ways meet, it goes on along the first operand.
    """
    call: int | None = start
    while call is not None and call != INPUT and not condition(call):
        sources: Sequence[int] = trace.calls[call].sources
        call = sources[0] if sources else None
    return None if call == INPUT else call


def _names_of_calls(trace: Trace) -> dict[int, str]:
    """The name of the innermost layer that has a call's output as its own."""
    names: dict[int, str] = {}
    for name, node in trace.nodes.items():
        if node.call is not None and name:
            names.setdefault(node.call, name)
    return names
