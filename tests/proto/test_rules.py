"""The options in the protos are sound: defaults parse, lie in their ranges, and can be left out."""

from collections.abc import Iterator

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message_factory import GetMessageClass

from convlens.contract import digest, rule_of, violations, with_defaults
from convlens.contract.rules import FLOATS, INTEGERS, default_of
from convlens.contract.validation import range_text
from convlens.v1 import (
    adversarial_pb2,
    anatomy_pb2,
    attack_methods_pb2,
    classification_pb2,
    error_pb2,
    explanation_methods_pb2,
    explanation_pb2,
    feature_pb2,
    geometry_pb2,
    image_pb2,
    network_pb2,
    options_pb2,
    quality_pb2,
    receipt_pb2,
    synthesis_methods_pb2,
    synthesis_pb2,
    target_pb2,
    tensor_pb2,
)

FILES = [
    adversarial_pb2,
    anatomy_pb2,
    attack_methods_pb2,
    classification_pb2,
    error_pb2,
    explanation_methods_pb2,
    explanation_pb2,
    feature_pb2,
    geometry_pb2,
    image_pb2,
    network_pb2,
    quality_pb2,
    receipt_pb2,
    synthesis_methods_pb2,
    synthesis_pb2,
    target_pb2,
    tensor_pb2,
]


def all_messages() -> Iterator[Descriptor]:
    for file in FILES:
        yield from file.DESCRIPTOR.message_types_by_name.values()


MESSAGES = list(all_messages())
FIELDS = [field for message in MESSAGES for field in message.fields]
WITH_DEFAULT = [field for field in FIELDS if rule_of(field).default]


def by_name(field: FieldDescriptor) -> str:
    return field.full_name


def test_every_file_of_the_contract_is_looked_at() -> None:
    import convlens.v1 as package

    [folder] = package.__path__
    from pathlib import Path

    names = {path.stem for path in Path(folder).glob("*.proto")}
    looked_at = {file.DESCRIPTOR.name.split("/")[-1].removesuffix(".proto") for file in FILES}
    assert names - looked_at == {"options"}


@pytest.mark.parametrize("field", WITH_DEFAULT, ids=by_name)
def test_default_parses_and_keeps_its_own_rule(field: FieldDescriptor) -> None:
    assert field.containing_type is not None
    message = GetMessageClass(field.containing_type)()
    value = default_of(field)
    assert value is not None
    setattr(message, field.name, value)
    assert [v for v in violations(message) if v.field == field.name] == []


@pytest.mark.parametrize("field", WITH_DEFAULT, ids=by_name)
def test_default_can_be_told_from_a_value(field: FieldDescriptor) -> None:
    assert field.has_presence or field.enum_type is not None
    assert field.containing_oneof is None or field.containing_oneof.name == f"_{field.name}"


def test_bounds_are_for_numbers_only() -> None:
    bounded = [field for field in FIELDS if range_text(rule_of(field))]
    assert bounded
    assert [field.full_name for field in bounded if field.cpp_type not in INTEGERS | FLOATS] == []


METHODS = {
    explanation_methods_pb2.DESCRIPTOR.message_types_by_name["ExplanationMethod"],
    attack_methods_pb2.DESCRIPTOR.message_types_by_name["AttackMethod"],
    synthesis_methods_pb2.DESCRIPTOR.message_types_by_name["SynthesisMethod"],
}


# In an order of their own: processes that share the tests must agree on it.
FAMILIES = sorted(METHODS, key=lambda family: family.name)


@pytest.mark.parametrize("family", FAMILIES, ids=[family.name for family in FAMILIES])
def test_every_method_names_its_paper(family: Descriptor) -> None:
    for field in family.fields:
        assert field.message_type is not None
        info = field.message_type.GetOptions().Extensions[options_pb2.method]
        assert info.title, field.full_name
        assert info.paper, field.full_name


def test_defaults_are_filled_in_everywhere_and_nothing_else_changes() -> None:
    request = explanation_pb2.ExplainRequest(
        images=[image_pb2.Image(encoded=b"x", geometry=image_pb2.GEOMETRY_AS_IS)],
    )
    request.methods.add().smooth_grad.samples = 7
    request = with_defaults(request)
    assert request.images[0].geometry == image_pb2.GEOMETRY_AS_IS
    assert request.methods[0].smooth_grad.samples == 7
    for field in request.methods[0].smooth_grad.DESCRIPTOR.fields:
        if rule_of(field).default and field.name != "samples":
            assert getattr(request.methods[0].smooth_grad, field.name) == default_of(field)


def test_filling_in_twice_changes_nothing() -> None:
    request = classification_pb2.ClassifyRequest(images=[image_pb2.Image(encoded=b"x")])
    once = with_defaults(request)
    assert with_defaults(once) == once
    assert once.top_k == 5
    assert not request.HasField("top_k")


def test_digest_tells_parts_apart() -> None:
    assert digest(b"ab", b"c") != digest(b"a", b"bc")
    assert digest(b"ab") == digest(b"ab")
    assert len(digest()) == 64
