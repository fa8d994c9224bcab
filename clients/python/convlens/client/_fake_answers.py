"""What a FakeServer says where it was told nothing else."""

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2

from convlens.client._fake_attacks import attack
from convlens.client._fake_basics import (
    EMPTY,
    LABELS,
    LAYER,
    NAME,
    SCORES,
    SIDE,
    check_network,
    has_pixels,
    invalid,
)
from convlens.client._fake_explanations import explain
from convlens.client._fake_robustness import evaluate
from convlens.client._fake_synthesis import synthesize
from convlens.contract import Failure, digest
from convlens.v1 import (
    classification_pb2,
    feature_pb2,
    image_pb2,
    network_pb2,
    receipt_pb2,
    tensor_pb2,
)

#: A message, an error, or a function that gives or raises one: of the request for an RPC with one
#: request, of the iterator of requests (and then giving an iterator) for a stream. A message is the
#: answer to each request of a stream, under the request's id.
Answer: TypeAlias = Message | Failure | Callable[[Any], Any]


def _classify(
    request: classification_pb2.ClassifyRequest,
) -> classification_pb2.ClassifyResponse:
    """A cat in every image; an error for an image without pixels."""
    check_network(request.network)
    if request.top_k > len(SCORES):
        words = f"is {request.top_k}; must be at most 2, the classes of this network"
        raise invalid("top_k", words)
    answer = classification_pb2.Classification(classes=SCORES[: request.top_k or None])
    result = classification_pb2.ClassifyResult
    results = [
        result(classification=answer) if has_pixels(image) else result(error=EMPTY)
        for image in request.images
    ]
    return classification_pb2.ClassifyResponse(results=results)


def _extract_features(
    request: feature_pb2.ExtractFeaturesRequest,
) -> feature_pb2.ExtractFeaturesResponse:
    """The numbers 0 to 3 at every layer, whatever is done to it; that is LAYER for the aliases.

    What is removed changes nothing, and what it takes goes on.
    """
    check_network(request.network)
    numbers = np.arange(4)
    codes: list[feature_pb2.LayerCode] = []
    for number, wanted in enumerate(request.layers):
        dtype = wanted.dtype or tensor_pb2.DATA_TYPE_FLOAT32
        if dtype not in _CODE_TYPES:
            names = " or ".join(map(tensor_pb2.DataType.Name, _CODE_TYPES))
            raise invalid(f"layers[{number}].dtype", f"is {wanted.dtype}; must be {names}")
        values = tensor_pb2.Tensor(
            dtype=dtype,
            shape=numbers.shape,
            data=numbers.astype(_CODE_TYPES[dtype]).tobytes(),
        )
        positions = tensor_pb2.Tensor(
            dtype=tensor_pb2.DATA_TYPE_INT64, shape=[4, 2], data=bytes(4 * 2 * 8)
        )
        pooled = wanted.pooling == feature_pb2.POOLING_MAX
        layer = LAYER if wanted.layer in ("cnn-code", "logits") else wanted.layer
        code = feature_pb2.LayerCode(layer=layer, values=values)
        if pooled:
            code.positions.CopyFrom(positions)
        codes.append(code)
    answer = feature_pb2.Features(codes=codes)
    result = feature_pb2.ExtractFeaturesResult
    results = [
        result(features=answer) if has_pixels(image) else result(error=EMPTY)
        for image in request.images
    ]
    identity = feature_pb2.REMOVAL_IDENTITY
    removed = [
        feature_pb2.RemovedLayer(layer=layer, removal=identity) for layer in request.removed_layers
    ]
    return feature_pb2.ExtractFeaturesResponse(results=results, removed_layers=removed)


_CODE_TYPES = {tensor_pb2.DATA_TYPE_FLOAT32: "<f4", tensor_pb2.DATA_TYPE_FLOAT16: "<f2"}


def _get_network(request: network_pb2.GetNetworkRequest) -> network_pb2.GetNetworkResponse:
    check_network(request.network)
    network = network_pb2.Network(
        name=NAME,
        version="1",
        kind=network_pb2.NETWORK_KIND_IMAGE,
        labels=LABELS,
        input=network_pb2.InputGeometry(height=SIDE, width=SIDE, channels=3),
        precision=receipt_pb2.PRECISION_FLOAT32,
        digest=digest(NAME.encode()),
        device_kind="cpu",
        traffic_weight=1,
    )
    return network_pb2.GetNetworkResponse(network=network)


def _list_pretrained(
    request: network_pb2.ListPretrainedRequest,
) -> network_pb2.ListPretrainedResponse:
    """ResNet-18's weights, with what torchvision says of them."""
    weights = network_pb2.PretrainedWeights(
        network="resnet18",
        weights="IMAGENET1K_V1",
        is_default=True,
        accuracy=network_pb2.Accuracy(dataset="ImageNet-1K validation", top1=0.69758, top5=0.89078),
        parameters=11_689_512,
        multiply_adds=1_814_000_000,
        file_bytes=46_830_453,
        input=network_pb2.InputGeometry(
            height=224,
            width=224,
            channels=3,
            resize=256,
            interpolation=image_pb2.INTERPOLATION_BILINEAR,
        ),
        classes=1000,
        recipe="https://github.com/pytorch/vision/tree/main/references/classification#resnet",
    )
    found = [weights] if request.name_contains in weights.network else []
    return network_pb2.ListPretrainedResponse(weights=found, torchvision_version="fake")


def default_answers() -> dict[str, Answer]:
    """What a FakeServer says where it was told nothing else."""
    summary = network_pb2.NetworkSummary(
        name=NAME,
        version="1",
        kind=network_pb2.NETWORK_KIND_IMAGE,
        classes=2,
        is_default=True,
        traffic_weight=1,
    )
    return {
        "Attack": attack,
        "Classify": _classify,
        "EvaluateRobustness": evaluate,
        "Explain": explain,
        "ExtractFeatures": _extract_features,
        "ListNetworks": network_pb2.ListNetworksResponse(networks=[summary]),
        "GetNetwork": _get_network,
        "ListPretrained": _list_pretrained,
        "Synthesize": synthesize,
        "Check": health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING),
    }
