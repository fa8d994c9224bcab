"""ExtractFeatures: what a network computes at any of its layers."""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from convlens.contract import ErrorReason, Failure, with_defaults
from convlens.v1 import feature_pb2, tensor_pb2
from convlens.v1.receipt_pb2 import Cost
from convlens.workers.anatomy import Reading, Removal, Tap, Unsteady
from convlens.workers.jobs import Ticket
from convlens.workers.network import ServedNetwork
from convlens.workers.passes import ROWS, ImageJob, Passes
from convlens.workers.receipts import receipt
from convlens.workers.selection import Code, Layers, Selected

# Codes of one pass, on the device and on their way out.
PASS_BYTES = 256 * 2**20
# What a response has beside its codes: the receipt without the layers, and for an image.
RECEIPT_BYTES, IMAGE_BYTES = 1024, 16
# What a length in front of a message or of bytes takes at most.
LENGTH_BYTES = 6
POOLINGS = {
    feature_pb2.POOLING_AVG: "POOLING_AVG",
    feature_pb2.POOLING_MAX: "POOLING_MAX",
}
TYPES = {
    torch.float32: tensor_pb2.DATA_TYPE_FLOAT32,
    torch.float16: tensor_pb2.DATA_TYPE_FLOAT16,
    torch.int64: tensor_pb2.DATA_TYPE_INT64,
}


def extractor(network: ServedNetwork, executor: ThreadPoolExecutor) -> Passes:
    """What answers ExtractFeatures jobs with one network; images are decoded in `executor`."""
    layers = Layers(network)
    return Passes(network, executor, lambda ticket: FeatureJob(ticket, network, layers))


def extract(
    network: ServedNetwork,
    selected: Sequence[Selected],
    pixels: Tensor,
    removed: Sequence[Removal] = (),
) -> Iterator[list[Code]]:
    """The codes of each row of pixels [n, channels, height, width], without their first dimension.

    One forward pass, without the layers `removed`, that stops after the deepest layer. Each layer
    is reduced as soon as it is there, so that whole maps are kept only where they are asked for.
    """
    found: dict[int, Code] = {}

    def tap(asked: Sequence[int]) -> Tap:
        def reduce(output: Tensor) -> None:
            for index in asked:
                found[index] = selected[index].reduce(output, len(pixels)).cpu()

        return reduce

    calls: dict[int, list[int]] = {}
    for index, layer in enumerate(selected):
        calls.setdefault(layer.call, []).append(index)
    taps = {call: tap(asked) for call, asked in calls.items()}
    with torch.inference_mode():
        reading = Reading(network.trace, taps, removed=removed)
        reading.run(network.module, network.place(pixels))
    for row in range(len(pixels)):
        yield [found[index].of(row) for index in range(len(selected))]


class FeatureJob(ImageJob[list[Code]]):
    """One ExtractFeatures job under way; a result is the codes of an image, in order."""

    def __init__(self, ticket: Ticket, network: ServedNetwork, layers: Layers) -> None:
        self._network = network
        self._request = with_defaults(
            feature_pb2.ExtractFeaturesRequest.FromString(ticket.job.request)
        )
        self._request.network = f"{network.facts.name}@{network.facts.version}"
        self.selected = tuple(layers.select(layer) for layer in self._request.layers)
        self.removed = layers.remove(self._request.removed_layers)
        images = self._request.images
        _check_size(self.selected, self.removed, len(images), ticket.job.max_response_bytes)
        kept = sum(layer.bytes() for layer in self.selected)
        rows = max(1, min(ROWS, PASS_BYTES // max(1, kept)))
        super().__init__(ticket, images, key=(self.selected, frozenset(self.removed)), rows=rows)

    def compute(self, pixels: Tensor) -> Iterable[list[Code]]:
        """The codes of each row; raises Failure where the network went another way for one."""
        try:
            return list(extract(self._network, self.selected, pixels, self.removed))
        except Unsteady as error:
            reason = ErrorReason.ERROR_REASON_LAYER_NOT_APPLICABLE
            network, layer = self._request.network, repr(self.selected[0].name)
            raise Failure(reason, network=network, layer=layer, detail=str(error)) from error

    def response(self, outcomes: Sequence[list[Code] | Failure]) -> bytes:
        """The response's bytes."""
        answered = sum(not isinstance(outcome, Failure) for outcome in outcomes)
        request = self._request
        parameters = feature_pb2.ExtractFeaturesRequest(
            network=request.network,
            layers=request.layers,
            removed_layers=request.removed_layers,
        )
        response = feature_pb2.ExtractFeaturesResponse(
            results=map(self._result, outcomes),
            receipt=receipt(self._network, request, parameters, Cost(forward_passes=answered)),
            removed_layers=map(_removed, self.removed),
        )
        return response.SerializeToString()

    def _result(self, outcome: list[Code] | Failure) -> feature_pb2.ExtractFeaturesResult:
        if isinstance(outcome, Failure):
            return feature_pb2.ExtractFeaturesResult(error=outcome.status())
        codes = [
            feature_pb2.LayerCode(
                layer=layer.name,
                values=_tensor(code.values),
                positions=None if code.positions is None else _tensor(code.positions),
            )
            for layer, code in zip(self.selected, outcome, strict=True)
        ]
        return feature_pb2.ExtractFeaturesResult(features=feature_pb2.Features(codes=codes))


def _removed(each: Removal) -> feature_pb2.RemovedLayer:
    how = feature_pb2.REMOVAL_IDENTITY if each.identity else feature_pb2.REMOVAL_ZEROS
    return feature_pb2.RemovedLayer(layer=each.layer, removal=how)


def _tensor(values: Tensor) -> tensor_pb2.Tensor:
    return tensor_pb2.Tensor(
        dtype=TYPES[values.dtype],
        shape=values.shape,
        data=values.contiguous().numpy().tobytes(),
    )


def _check_size(
    selected: Sequence[Selected], removed: Sequence[Removal], images: int, limit: int
) -> None:
    """Raises Failure RESPONSE_TOO_LARGE where the codes could not be sent."""
    extra = sum(_frame(layer) for layer in selected)
    names = [*(layer.name for layer in selected), *(each.layer for each in removed)]
    fixed = RECEIPT_BYTES + sum(2 * len(name) + 16 for name in names)

    def size(count: int, pooling: int | None = None, half: bool | None = None) -> int:
        codes = extra + sum(layer.bytes(pooling, half) for layer in selected)
        return fixed + count * (codes + IMAGE_BYTES)

    if not limit or size(images) <= limit:
        return
    largest = max(selected, key=Selected.bytes)
    detail = (
        f"the codes of {_count(images, 'image')} take {_said(size(images))} "
        f"({largest.name} alone {_said(largest.bytes())} an image), allowed are {_said(limit)}"
    )
    fitting = [name for pooling, name in POOLINGS.items() if size(images, pooling) <= limit]
    if size(images, half=True) <= limit:
        fitting.append("DATA_TYPE_FLOAT16")
    advice = [f"{' or '.join(fitting)} would fit"] if fitting else []
    if fewer := max(0, limit - fixed) // (size(1) - fixed):
        advice.append(f"{_count(fewer, 'image')} at a time would fit")
    words = "; ".join(advice) or "Ask for fewer layers"
    raise Failure(ErrorReason.ERROR_REASON_RESPONSE_TOO_LARGE, detail=detail, advice=words)


def _frame(layer: Selected) -> int:
    """What a code of the layer takes beside its numbers, at most."""
    tensor = tensor_pb2.Tensor(dtype=tensor_pb2.DATA_TYPE_INT64, shape=layer.output.shape)
    code = feature_pb2.LayerCode(layer=layer.name, values=tensor, positions=tensor)
    return code.ByteSize() + 4 * LENGTH_BYTES


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _said(count: int) -> str:
    return f"{count / 2**20:.1f} MiB ({count} bytes)"
