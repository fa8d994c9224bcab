"""Every violation is found, at once, and says what is allowed."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convlens.contract import violations
from convlens.v1.adversarial_pb2 import RobustnessPlan
from convlens.v1.attack_methods_pb2 import PGD, AttackMethod
from convlens.v1.classification_pb2 import ClassifyRequest, ClassifyStreamRequest
from convlens.v1.explanation_methods_pb2 import Occlusion, SmoothGrad
from convlens.v1.feature_pb2 import ExtractFeaturesRequest, LayerSelection
from convlens.v1.image_pb2 import Geometry, Image
from convlens.v1.target_pb2 import Target
from convlens.v1.tensor_pb2 import DATA_TYPE_FLOAT16, DATA_TYPE_UINT8, DataType

IMAGE = Image(encoded=b"x")


def told(message) -> dict[str, str]:
    return {violation.field: violation.description for violation in violations(message)}


def test_a_good_request_has_none() -> None:
    assert told(ClassifyRequest(images=[IMAGE], top_k=1)) == {}


def test_all_are_reported_at_once() -> None:
    assert told(ClassifyRequest(network="n" * 201, top_k=0)) == {
        "network": "is 201 long; must be at most 200",
        "images": "has 0 entries; must have at least 1",
        "top_k": "is 0; must be at least 1 and at most 100000 classes",
    }


def test_too_many_entries() -> None:
    assert told(ClassifyRequest(images=[IMAGE] * 65)) == {
        "images": "has 65 entries; must have at most 64"
    }


def test_every_number_of_a_list_is_in_its_range() -> None:
    plan = RobustnessPlan(attacks=[AttackMethod(pgd=PGD())], epsilons=[0.1, 0, math.nan, 1, 2])
    assert list(told(plan)) == ["epsilons[1]", "epsilons[2]", "epsilons[4]"]
    assert told(plan)["epsilons[1]"].startswith("is 0; must be greater than 0 and at most 1")


def test_every_text_of_a_list_has_its_length() -> None:
    layers = [LayerSelection(layer="a")]
    request = ExtractFeaturesRequest(
        images=[IMAGE], layers=layers, removed_layers=["a", "b" * 201, "c" * 200]
    )
    assert told(request) == {"removed_layers[1]": "is 201 long; must be at most 200"}


def test_items_are_left_to_themselves() -> None:
    broken = Image()
    assert told(ClassifyRequest(images=[broken])) == {}
    assert told(broken) == {"source": "must be one of: encoded, tensor"}


def test_paths_lead_through_messages_and_entries() -> None:
    request = ExtractFeaturesRequest(
        images=[IMAGE], layers=[LayerSelection(layer="a"), LayerSelection()]
    )
    assert told(request) == {"layers[1].layer": "must not be empty"}
    assert told(ClassifyStreamRequest()) == {"request": "must be set"}
    inner = ClassifyStreamRequest(request=ClassifyRequest(images=[IMAGE], top_k=0))
    assert set(told(inner)) == {"request.top_k"}


def test_values_that_a_field_does_not_take_are_refused() -> None:
    wrong = LayerSelection(layer="a", dtype=DATA_TYPE_UINT8)
    assert told(wrong) == {
        "dtype": "is DATA_TYPE_UINT8; must be one of: DATA_TYPE_FLOAT32, DATA_TYPE_FLOAT16"
    }
    assert told(LayerSelection(layer="a", dtype=DATA_TYPE_FLOAT16)) == {}
    unknown = told(LayerSelection(layer="a", dtype=DataType.ValueType(99)))
    assert set(unknown) == {"dtype"} and unknown["dtype"].startswith("is 99; must be one of: ")


def test_unknown_enum_values_are_refused() -> None:
    [text] = told(Image(encoded=b"x", geometry=Geometry.ValueType(99))).values()
    assert text == "is 99; must be one of: GEOMETRY_NETWORK, GEOMETRY_AS_IS"


def test_a_choice_must_be_made() -> None:
    assert told(Target()) == {"target": "must be one of: class_index, label, rank"}
    assert set(told(Target(rank=0))) == {"rank"}


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (Occlusion(stride=0), "stride"),
        (SmoothGrad(samples=10_000), "samples"),
        (PGD(epsilon=0), "epsilon"),
        (PGD(epsilon=-1), "epsilon"),
        (PGD(epsilon=1.5), "epsilon"),
        (PGD(epsilon=math.nan), "epsilon"),
        (PGD(epsilon=math.inf), "epsilon"),
    ],
)
def test_numbers_outside_their_range(message, field: str) -> None:
    assert field in told(message)


@given(st.integers(0, 2**32 - 1))
def test_top_k_is_refused_exactly_outside_its_range(top_k: int) -> None:
    assert bool(told(ClassifyRequest(images=[IMAGE], top_k=top_k))) == (not 1 <= top_k <= 100_000)


@given(st.binary(max_size=200))
def test_whatever_parses_can_be_checked(body: bytes) -> None:
    from google.protobuf.message import DecodeError

    try:
        message = ExtractFeaturesRequest.FromString(body)
    except DecodeError:
        return
    for violation in violations(message):
        assert violation.field
        assert violation.description
