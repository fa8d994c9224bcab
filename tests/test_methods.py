"""A method of Explain is in every room, or in none."""

from importlib.util import find_spec
from typing import get_args

from convlens.client import methods as public
from convlens.client._operations import asking
from convlens.contract import cost
from convlens.contract.method_page import choices_of
from convlens.v1.explanation_methods_pb2 import ExplanationMethod
from convlens.v1.quality_pb2 import QualityMeasure
from convlens.workers.explain.plans import PLANNERS

METHODS, MEASURES = choices_of(ExplanationMethod), choices_of(QualityMeasure)


def test_every_method_has_a_planner_and_a_cost() -> None:
    names = {field.name for field in METHODS}
    assert names == PLANNERS.keys() == cost.METHODS.keys()


def test_the_sdk_takes_every_method_and_every_measure() -> None:
    for fields, taken, wrapper in (
        (METHODS, asking.Method, ExplanationMethod),
        (MEASURES, asking.Measure, QualityMeasure),
    ):
        names = {field.message_type.name for field in fields if field.message_type}
        assert names <= set(public.__all__)
        messages = {kind.DESCRIPTOR.name for kind in get_args(taken)}
        assert messages == names | {wrapper.DESCRIPTOR.name}


def test_every_method_is_a_file_of_its_own() -> None:
    names = [field.name for field in METHODS]
    assert [n for n in names if find_spec(f"convlens.workers.methods.{n}") is None] == []
