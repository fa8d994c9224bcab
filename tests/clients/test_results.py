"""Results are frozen values that have every field of the contract."""

from dataclasses import FrozenInstanceError, fields

import pytest

from convlens.client import (
    Accuracy,
    ClassScore,
    Cost,
    InputGeometry,
    Layer,
    Network,
    NetworkSummary,
    PretrainedWeights,
    Receipt,
    ReceptiveField,
    _results,
)
from convlens.client.testing import FakeServer
from convlens.v1 import classification_pb2 as pb
from convlens.v1 import network_pb2, receipt_pb2

PAIRS = [
    (Accuracy, network_pb2.Accuracy, set(), set()),
    (ClassScore, pb.ClassScore, {"index"}, {"class_index"}),
    (Cost, receipt_pb2.Cost, set(), set()),
    (InputGeometry, network_pb2.InputGeometry, set(), set()),
    (Layer, network_pb2.Layer, set(), set()),
    (Network, network_pb2.Network, set(), set()),
    (NetworkSummary, network_pb2.NetworkSummary, set(), set()),
    (PretrainedWeights, network_pb2.PretrainedWeights, set(), set()),
    (Receipt, receipt_pb2.Receipt, {"wire"}, {"parameters"}),
    (ReceptiveField, network_pb2.ReceptiveField, set(), set()),
]


@pytest.mark.parametrize(("cls", "message", "ours", "theirs"), PAIRS)
def test_no_field_of_the_contract_is_forgotten(cls, message, ours, theirs):
    names = {field.name for field in fields(cls)}
    assert names - ours == set(message.DESCRIPTOR.fields_by_name) - theirs


@pytest.mark.parametrize("cls", [cls for cls, *_ in PAIRS])
def test_results_are_frozen_and_small(cls):
    assert cls.__dataclass_params__.frozen
    assert not hasattr(object.__new__(cls), "__dict__")


def test_a_whole_network():
    layer = network_pb2.Layer(
        name="conv1",
        output_shape=[24, 64, 64],
        receptive_field=network_pb2.ReceptiveField(size=7, jump=2, offset=0.5),
    )
    network = _results.network(
        network_pb2.Network(
            name="shapes",
            kind=network_pb2.NETWORK_KIND_LINEAR,
            input=network_pb2.InputGeometry(
                interpolation=network_pb2.INTERPOLATION_BICUBIC, mean=[0.5, 0.25, 0.125]
            ),
            accuracies=[network_pb2.Accuracy(dataset="shapes", top1=0.99)],
            precision=receipt_pb2.PRECISION_BFLOAT16,
            layers=[layer, network_pb2.Layer(name="fc")],
            traffic_weight=0.25,
        )
    )
    assert (network.kind, network.precision) == ("linear", "bfloat16")
    assert (network.input.interpolation, network.input.mean) == ("bicubic", (0.5, 0.25, 0.125))
    assert network.accuracies[0].top1 == 0.99
    assert network.layers[0].output_shape == (24, 64, 64)
    assert network.layers[0].receptive_field == ReceptiveField(7, 2, 0.5)
    assert network.layers[1].receptive_field is None
    assert network.traffic_weight == 0.25


def test_a_word_of_a_newer_server_is_its_number():
    message = network_pb2.NetworkSummary()
    message.ParseFromString(b"\x18\x63")
    assert _results.network_summary(message).kind == "99"


def test_a_receipt_keeps_everything(connect):
    receipt = receipt_pb2.Receipt(network="shapes", seed=7, rows=8, threads=2)
    receipt.parameters.Pack(pb.ClassifyRequest(network="shapes", top_k=3))
    receipt.cost.forward_passes = 1
    score = pb.ClassScore(class_index=3, label="star", probability=0.75, logit=1.5)
    answer = pb.ClassifyResponse(
        results=[pb.ClassifyResult(classification=pb.Classification(classes=[score]))],
        receipt=receipt,
    )
    with FakeServer({"Classify": answer}) as server:
        result = connect(server.address).call("classify", b"x")
    assert result.top == ClassScore(3, "star", 0.75, 1.5)
    assert (result.receipt.seed, result.receipt.rows) == (7, 8)
    assert result.receipt.cost == Cost(1, 0)
    assert result.receipt.to_dict()["parameters"]["top_k"] == 3
    with pytest.raises(FrozenInstanceError):
        result.top.label = "ring"
    assert hash(result) == hash(result)
