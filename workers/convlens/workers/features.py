"""ExtractFeatures: what a network computes at any of its layers."""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from convlens.contract import ErrorReason, Failure, with_defaults
from convlens.v1 import feature_pb2, tensor_pb2
from convlens.workers.anatomy import Reading, Tap
from convlens.workers.jobs import Ticket
from convlens.workers.network import ServedNetwork
from convlens.workers.passes import ROWS, ImageJob, Passes
from convlens.workers.receipts import receipt
from convlens.workers.selection import Code, Layers, Selected

# Codes of one pass, on the device and on their way out.
PASS_BYTES = 256 * 2**20
# What a response has beside its numbers, for an image and for each of its codes.
IMAGE_BYTES, CODE_BYTES = 64, 128
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
    network: ServedNetwork, selected: Sequence[Selected], pixels: Tensor
) -> Iterator[list[Code]]:
    """The codes of each row of pixels [n, channels, height, width], without their first dimension.

    One forward pass that stops after the deepest layer. Each layer is reduced as soon as it is
    there, so that whole maps are kept only where they are asked for.
    """
    found: list[Code] = [Code(pixels)] * len(selected)

    def tap(call: int) -> Tap:
        def reduce(output: Tensor) -> None:
            for index, layer in enumerate(selected):
                if layer.call == call:
                    found[index] = layer.reduce(output, len(pixels)).cpu()

        return reduce

    taps = {layer.call: tap(layer.call) for layer in selected}
    with torch.inference_mode():
        Reading(network.trace, taps).run(network.module, network.place(pixels))
    for row in range(len(pixels)):
        yield [code.of(row) for code in found]


class FeatureJob(ImageJob[list[Code]]):
    """One ExtractFeatures job under way; a result is the codes of an image, in order."""

    def __init__(self, ticket: Ticket, network: ServedNetwork, layers: Layers) -> None:
        self._network = network
        self._request = with_defaults(
            feature_pb2.ExtractFeaturesRequest.FromString(ticket.job.request)
        )
        self._request.network = f"{network.facts.name}@{network.facts.version}"
        self.selected = tuple(layers.select(layer) for layer in self._request.layers)
        images = self._request.images
        _check_size(self.selected, len(images), ticket.job.max_response_bytes)
        kept = sum(layer.bytes() for layer in self.selected)
        rows = max(1, min(ROWS, PASS_BYTES // max(1, kept)))
        super().__init__(ticket, images, key=self.selected, rows=rows)

    def compute(self, pixels: Tensor) -> Iterable[list[Code]]:
        """The codes of each row."""
        return extract(self._network, self.selected, pixels)

    def response(self, outcomes: Sequence[list[Code] | Failure]) -> bytes:
        """The response's bytes."""
        answered = sum(not isinstance(outcome, Failure) for outcome in outcomes)
        request = self._request
        parameters = feature_pb2.ExtractFeaturesRequest(
            network=request.network, layers=request.layers
        )
        response = feature_pb2.ExtractFeaturesResponse(
            results=map(self._result, outcomes),
            receipt=receipt(self._network, request, parameters, forward_passes=answered),
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


def _tensor(values: Tensor) -> tensor_pb2.Tensor:
    return tensor_pb2.Tensor(
        dtype=TYPES[values.dtype],
        shape=values.shape,
        data=values.contiguous().numpy().tobytes(),
    )


def _check_size(selected: Sequence[Selected], images: int, limit: int) -> None:
    """Raises Failure RESPONSE_TOO_LARGE where the codes could not be sent."""

    def size(count: int, pooling: int | None = None) -> int:
        codes = sum(layer.bytes(pooling) + CODE_BYTES for layer in selected)
        return count * (codes + IMAGE_BYTES)

    if not limit or size(images) <= limit:
        return
    largest = max(selected, key=Selected.bytes)
    detail = (
        f"the codes of {_count(images, 'image')} take {_megabytes(size(images))} "
        f"({largest.name} alone {_megabytes(largest.bytes())} an image), "
        f"allowed are {_megabytes(limit)}"
    )
    fitting = [name for pooling, name in POOLINGS.items() if size(images, pooling) <= limit]
    advice = [f"{' or '.join(fitting)} would fit"] if fitting else []
    if fewer := limit // size(1):
        advice.append(f"{_count(fewer, 'image')} at a time would fit")
    words = "; ".join(advice) or "Ask for fewer layers"
    raise Failure(ErrorReason.ERROR_REASON_RESPONSE_TOO_LARGE, detail=detail, advice=words)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _megabytes(count: int) -> str:
    return f"{count / 2**20:.1f} MiB"
