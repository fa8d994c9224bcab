"""Results are frozen values that have every field of the contract."""

from dataclasses import FrozenInstanceError, fields

import pytest

from convlens.client import (
    Accuracy,
    Anatomy,
    ClassScore,
    Cost,
    DesignWarning,
    FieldExtent,
    InputGeometry,
    Layer,
    Network,
    NetworkSummary,
    PretrainedWeights,
    Receipt,
    ReceptiveField,
    TrainingMemory,
    _results,
)
from convlens.client.testing import FakeServer
from convlens.v1 import anatomy_pb2, image_pb2, network_pb2, receipt_pb2, target_pb2
from convlens.v1 import classification_pb2 as pb

PAIRS = [
    (Accuracy, network_pb2.Accuracy, set(), set()),
    (Anatomy, anatomy_pb2.Anatomy, set(), set()),
    (ClassScore, target_pb2.ClassScore, {"index"}, {"class_index"}),
    (Cost, receipt_pb2.Cost, set(), set()),
    (DesignWarning, anatomy_pb2.DesignWarning, set(), set()),
    (FieldExtent, anatomy_pb2.FieldExtent, set(), set()),
    (InputGeometry, network_pb2.InputGeometry, set(), set()),
    (Layer, anatomy_pb2.Layer, set(), set()),
    (Network, network_pb2.Network, set(), set()),
    (NetworkSummary, network_pb2.NetworkSummary, set(), set()),
    (PretrainedWeights, network_pb2.PretrainedWeights, set(), set()),
    (Receipt, receipt_pb2.Receipt, {"wire"}, {"parameters"}),
    (ReceptiveField, anatomy_pb2.ReceptiveField, set(), set()),
    (TrainingMemory, anatomy_pb2.TrainingMemory, set(), set()),
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
    extents = [anatomy_pb2.FieldExtent(size=size, jump=2, offset=0.5) for size in (7, 1)]
    layer = anatomy_pb2.Layer(
        name="conv1",
        output_shape=[24, 64, 64],
        receptive_field=anatomy_pb2.ReceptiveField(vertical=extents[0], horizontal=extents[1]),
    )
    skips = anatomy_pb2.DesignWarning(
        layer="fc", kind=anatomy_pb2.DESIGN_WARNING_KIND_STRIDE_SKIPS, sentence="It skips."
    )
    anatomy = anatomy_pb2.Anatomy(
        layers=[layer, anatomy_pb2.Layer(name="fc")],
        training_memory=anatomy_pb2.TrainingMemory(momentum_bytes=12),
        warnings=[skips],
        grammar="INPUT -> FC",
    )
    network = _results.network(
        network_pb2.Network(
            name="shapes",
            kind=network_pb2.NETWORK_KIND_LINEAR,
            input=network_pb2.InputGeometry(
                interpolation=image_pb2.INTERPOLATION_BICUBIC, mean=[0.5, 0.25, 0.125]
            ),
            accuracies=[network_pb2.Accuracy(dataset="shapes", top1=0.99)],
            precision=receipt_pb2.PRECISION_BFLOAT16,
            anatomy=anatomy,
            traffic_weight=0.25,
        )
    )
    assert (network.kind, network.precision) == ("linear", "bfloat16")
    assert (network.input.interpolation, network.input.mean) == ("bicubic", (0.5, 0.25, 0.125))
    assert network.accuracies[0].top1 == 0.99
    conv, fc = network.anatomy.layers
    assert conv.output_shape == (24, 64, 64)
    assert conv.receptive_field == ReceptiveField(FieldExtent(7, 2, 0.5), FieldExtent(1, 2, 0.5))
    assert fc.receptive_field is None
    assert network.anatomy.training_memory.momentum_bytes == 12
    assert network.anatomy.warnings == (DesignWarning("fc", "stride_skips", "It skips."),)
    assert network.anatomy.grammar == "INPUT -> FC"
    assert network.traffic_weight == 0.25


def test_a_word_of_a_newer_server_is_its_number():
    message = network_pb2.NetworkSummary()
    message.ParseFromString(b"\x18\x63")
    assert _results.network_summary(message).kind == "99"


def test_a_receipt_keeps_everything(connect):
    receipt = receipt_pb2.Receipt(network="shapes", seed=7, rows=8, threads=2)
    receipt.parameters.Pack(pb.ClassifyRequest(network="shapes", top_k=3))
    receipt.cost.forward_passes = 1
    score = target_pb2.ClassScore(class_index=3, label="star", probability=0.75, logit=1.5)
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
    assert str(result.top) == "star 75.0 %"
    assert str(ClassScore(3, "star", None, None)) == "star"
    with pytest.raises(FrozenInstanceError):
        result.top.label = "ring"
    assert hash(result) == hash(result)
