"""ExtractFeatures: codes of any layer, over gRPC, on both engines."""

from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_status import rpc_status
from numpy.typing import NDArray

from convlens.contract import Failure
from convlens.contract.errors import reason_name
from convlens.v1 import feature_pb2, feature_pb2_grpc, tensor_pb2
from convlens.v1.classification_pb2 import ClassifyRequest
from convlens.v1.image_pb2 import Image
from convlens.v1.network_pb2 import GetNetworkRequest
from convlens.v1.network_pb2_grpc import NetworkServiceStub
from tests.conftest import classification

TYPES = {
    tensor_pb2.DATA_TYPE_FLOAT32: "<f4",
    tensor_pb2.DATA_TYPE_FLOAT16: "<f2",
    tensor_pb2.DATA_TYPE_INT64: "<i8",
}


def array(tensor: Any) -> NDArray[Any]:
    return np.frombuffer(tensor.data, TYPES[tensor.dtype]).reshape(tensor.shape)


@pytest.fixture
def stub(channel: grpc.Channel) -> Any:
    return feature_pb2_grpc.FeatureServiceStub(channel)


@pytest.fixture
def layers(channel: grpc.Channel) -> list[str]:
    network = NetworkServiceStub(channel).GetNetwork(GetNetworkRequest()).network
    return [layer.name for layer in network.anatomy.layers if layer.supports_features]


@pytest.fixture
def images(pictures: list[Path]) -> list[Image]:
    return [Image(encoded=path.read_bytes()) for path in pictures]


def request(images: list[Image], *layers: Any) -> feature_pb2.ExtractFeaturesRequest:
    wanted = [
        feature_pb2.LayerSelection(layer=each) if isinstance(each, str) else each for each in layers
    ]
    return feature_pb2.ExtractFeaturesRequest(images=images, layers=wanted)


def refused(stub: Any, message: Any) -> Failure:
    with pytest.raises(grpc.RpcError) as caught:
        stub.ExtractFeatures(message, timeout=20)
    status: Any = rpc_status.from_call(caught.value)  # pyright: ignore[reportArgumentType]
    failure = Failure.from_status(status)
    assert failure is not None
    return failure


def test_every_layer_of_the_network_in_one_call(
    stub: Any, layers: list[str], images: list[Image], channel: grpc.Channel
) -> None:
    response = stub.ExtractFeatures(request(images[:1], *layers), timeout=20)
    [result] = response.results
    network = NetworkServiceStub(channel).GetNetwork(GetNetworkRequest()).network
    shapes = {layer.name: list(layer.output_shape) for layer in network.anatomy.layers}
    for code in result.features.codes:
        values = array(code.values)
        assert list(values.shape) == shapes[code.layer]
        assert np.isfinite(values).all()
        assert values.any()
    assert [code.layer for code in result.features.codes] == layers
    assert response.receipt.cost.forward_passes == 1
    assert response.receipt.network == "shapes"


def test_logits_are_those_of_classify(stub: Any, channel: grpc.Channel, images: list[Image]):
    codes = stub.ExtractFeatures(request(images, "logits"), timeout=20).results
    scores = classification(channel).Classify(ClassifyRequest(images=images, top_k=1), timeout=20)
    for code, score in zip(codes, scores.results, strict=True):
        [best] = score.classification.classes
        logits = array(code.features.codes[0].values)
        assert int(logits.argmax()) == best.class_index
        assert logits.max() == pytest.approx(best.logit, abs=1e-5 * float(np.abs(logits).max()))


def test_a_bad_picture_is_its_own_error(stub: Any, images: list[Image]) -> None:
    message = request([images[0], Image(encoded=b"no picture"), images[1]], "cnn-code")
    good, bad, other = stub.ExtractFeatures(message, timeout=20).results
    failure = Failure.from_status(bad.error)
    assert failure
    assert reason_name(failure.reason) == "IMAGE_UNREADABLE"
    assert good.features.codes[0].values.shape == other.features.codes[0].values.shape


def test_the_same_layer_twice_and_200_layers(stub: Any, layers: list[str], images: list[Image]):
    maximum = feature_pb2.LayerSelection(layer=layers[0], pooling=feature_pb2.POOLING_MAX)
    twice = stub.ExtractFeatures(request(images[:1], layers[0], maximum), timeout=20).results[0]
    whole, best = twice.features.codes
    assert (array(whole.values).max(axis=(1, 2)) == array(best.values)).all()
    assert array(best.positions).shape == (len(array(best.values)), 2)
    many = [feature_pb2.LayerSelection(layer="features.0", pooling=feature_pb2.POOLING_AVG)] * 200
    codes = stub.ExtractFeatures(request(images[:1], *many), timeout=20).results[0].features.codes
    assert len({code.values.data for code in codes}) == 1
    assert len(codes) == 200


def test_what_cannot_be_read_is_refused_with_what_can(stub: Any, images: list[Image]) -> None:
    failure = refused(stub, request(images[:1], "features.1000"))
    assert reason_name(failure.reason) == "LAYER_NOT_FOUND"
    assert "features.1" in str(failure)
    flat = feature_pb2.LayerSelection(layer="logits", pooling=feature_pb2.POOLING_MAX)
    failure = refused(stub, request(images[:1], flat))
    assert reason_name(failure.reason) == "LAYER_NOT_APPLICABLE"
    assert "no maps" in str(failure)


def test_codes_above_the_limit_are_refused_before_anything_is_computed(
    stub: Any, images: list[Image]
) -> None:
    message = request([images[0]] * 64, *["features.0"] * 8)
    failure = refused(stub, message)
    assert reason_name(failure.reason) == "RESPONSE_TOO_LARGE"
    assert "POOLING_AVG or POOLING_MAX would fit" in str(failure)
    assert "at a time would fit" in str(failure)


def test_a_stream_answers_in_order(stub: Any, images: list[Image]) -> None:
    asked = [
        feature_pb2.ExtractFeaturesStreamRequest(
            id=index, request=request([images[index % len(images)]], "cnn-code")
        )
        for index in range(100)
    ]
    answers = list(stub.ExtractFeaturesStream(iter(asked), timeout=60))
    assert [answer.id for answer in answers] == list(range(100))
    lengths = {len(each.response.results[0].features.codes[0].values.data) for each in answers}
    assert len(lengths) == 1
