"""What makes one synthesis the same question as another."""

from typing import Any

import pytest

from convlens.contract.synthesis_question import FREE, question_alone
from convlens.v1 import synthesis_methods_pb2 as methods
from convlens.v1 import synthesis_pb2 as pb


def asked(**given: Any) -> pb.SynthesizeRequest:
    gradient = methods.FoolingGradient(steps=given.pop("steps", 4), l2_weight=0.5)
    fooling = methods.Fooling(confidence=given.pop("confidence", 0.9), gradient=gradient)
    return pb.SynthesizeRequest(method=methods.SynthesisMethod(fooling=fooling), **given)


def test_fields_that_are_free_change_nothing() -> None:
    free = asked(
        **{"steps": 9, "network": "other", "checkpoint": b"x", "progress_every": 3},
        **{"preview_every": 0, "allow_partial": True, "estimate_only": True},
    )
    assert question_alone(free) == question_alone(asked())
    assert free.network == "other" and free.method.fooling.gradient.steps == 9


@pytest.mark.parametrize("other", [{"seed": 1}, {"canvas": pb.Canvas(height=9)}, {"confidence": 1}])
def test_every_other_field_does(other: dict[str, Any]) -> None:
    assert question_alone(asked(**other)) != question_alone(asked())


def test_every_free_field_is_one_of_the_contract() -> None:
    kinds = (pb.SynthesizeRequest, methods.ClassModel, methods.FoolingCppn)
    assert {name for kind in kinds for name in kind.DESCRIPTOR.fields_by_name} >= FREE
