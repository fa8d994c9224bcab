"""Judges what the methods of a request found, by the measures that it asks for."""

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import Tensor

from convlens.contract import ErrorReason, Failure
from convlens.contract.measures import OF_THE_PICTURE_ALONE, misfit
from convlens.contract.rules import title_of
from convlens.v1 import explanation_pb2, quality_pb2
from convlens.v1.quality_pb2 import QualityMeasure, QualityValue
from convlens.workers.anatomy.naming import SCRIPTED
from convlens.workers.explain.found import Found, converted
from convlens.workers.explain.plans import Plan
from convlens.workers.explain.subject import Subject
from convlens.workers.methods.fills import filled
from convlens.workers.pictures import Picture
from convlens.workers.quality import (
    Curve,
    Redrawn,
    all_weights,
    completeness,
    deletion,
    insertion,
    max_sensitivity,
    missed,
    model_randomization,
    through,
    weights_from,
)
from convlens.workers.runner import Steps, side_by_side

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """What is judged: what a method found for a picture and a class.

    `begin` puts the method to work on a picture, for that class.
    """

    plan: Plan
    picture: Picture
    target: int
    begin: Callable[[Picture], Steps[Found]]
    found: Found

    @property
    def map(self) -> Tensor:
        """The map, which a measure that fits has."""
        assert self.found.map is not None
        return self.found.map

    def map_of(self, x: Tensor) -> Steps[Tensor]:
        """The method's map of x, in the place of what the network took of the picture."""
        prepared = replace(self.picture.prepared, tensor=x)
        return converted(self.begin(replace(self.picture, prepared=prepared)), _map, _whole_map)


def _map(found: Found) -> Tensor:
    assert found.map is not None
    return found.map


def _whole_map(found: Found) -> Tensor | None:
    """A map that ended before its time is not compared with others."""
    return None if found.is_partial else found.map


class Judging:
    """The measures of a request for a network, which has what they need ready."""

    def __init__(self, subject: Subject, request: explanation_pb2.ExplainRequest) -> None:
        self._subject = subject
        self._seed = request.seed
        self._measures = list(request.measures)
        self._variants = {
            number: self._variant(each.model_randomization)
            for number, each in enumerate(request.measures)
            if each.HasField("model_randomization")
        }

    def judge(self, case: Case) -> Steps[dict[int, QualityValue | Failure]]:
        """What each measure that asks the network says, by its position in the request."""
        numbers = [
            number
            for number, each in enumerate(self._measures)
            if each.WhichOneof("measure") not in OF_THE_PICTURE_ALONE
        ]
        values = yield from side_by_side([self._value(number, case) for number in numbers])
        return dict(zip(numbers, values, strict=True))

    def _value(self, number: int, case: Case) -> Steps[QualityValue]:
        measure = self._measures[number]
        check_fit(measure, case.plan)
        if case.found.is_partial:
            raise Failure(
                ErrorReason.ERROR_REASON_DEADLINE_EXCEEDED, stage="before the map was done"
            )
        value = yield from self._begin(number, case)
        if not math.isfinite(value.score):
            raise Failure(
                ErrorReason.ERROR_REASON_NOT_FINITE,
                method=title_of_measure(measure),
                network=self._subject.reference,
                detail="its score for a map that is finite",
            )
        return value

    def _begin(self, number: int, case: Case) -> Steps[QualityValue]:
        measure = self._measures[number]
        match measure.WhichOneof("measure"):
            case "deletion" | "insertion":
                return self._curve(measure, case)
            case "completeness":
                return self._completeness(measure.completeness, case)
            case "max_sensitivity":
                return self._max_sensitivity(measure, case)
            case name:
                assert name == "model_randomization"
                return self._model_randomization(measure, self._variants[number], case)

    def _fill(self, x: Tensor, fill: int, sigma: float) -> Tensor:
        mean = self._subject.network.facts.input.mean
        return filled(x, fill, mean=mean, sigma=sigma, seed=self._seed)

    def _curve(self, measure: QualityMeasure, case: Case) -> Steps[QualityValue]:
        if case.found.space != explanation_pb2.MAP_SPACE_INPUT_PIXELS:
            raise unfit(measure, case.plan, "its map has no number for each pixel")
        x = case.picture.x
        p = measure.deletion if measure.HasField("deletion") else measure.insertion
        fill = self._fill(x, p.fill, p.blur_sigma)
        found: Curve
        if isinstance(p, quality_pb2.Deletion):
            found = yield from deletion(x, case.map, case.target, p, fill)
        else:
            found = yield from insertion(x, case.map, case.target, p, fill)
        return QualityValue(score=found.area, curve=map(float, found.probabilities))

    def _completeness(self, p: quality_pb2.Completeness, case: Case) -> Steps[QualityValue]:
        details = case.found.details
        if details is not None and details.HasField("integrated_gradients"):
            ends = details.integrated_gradients
            return QualityValue(score=missed(case.map, ends.score, ends.baseline_score))
        x = case.picture.x
        baseline = self._fill(x, p.baseline, p.blur_sigma)
        return QualityValue(score=(yield from completeness(x, case.map, case.target, baseline)))

    def _max_sensitivity(self, measure: QualityMeasure, case: Case) -> Steps[QualityValue]:
        if not bool(case.map.any()):
            detail = "its map is zero everywhere, so that no change is relative to anything"
            raise unfit(measure, case.plan, detail)
        rows, p = self._subject.network.facts.rows, measure.max_sensitivity
        score = yield from max_sensitivity(
            case.picture.x, case.map, case.map_of, p, self._seed, at_once=rows
        )
        return QualityValue(score=score)

    def _model_randomization(
        self, measure: QualityMeasure, variant: Redrawn | Failure, case: Case
    ) -> Steps[QualityValue]:
        if isinstance(variant, Failure):
            raise variant
        strengths = case.map.abs()
        if bool(strengths.amin() == strengths.amax()):
            detail = "its map is the same everywhere, so that there are no ranks to compare"
            raise unfit(measure, case.plan, detail)
        again = through(case.map_of(case.picture.x), variant)
        return QualityValue(score=(yield from model_randomization(case.map, again)))

    def _variant(self, p: quality_pb2.ModelRandomization) -> Redrawn | Failure:
        """The network with weights drawn anew, or why there is none."""
        try:
            return self._subject.variants.of(self._weights(p), self._seed)
        except Failure as failure:
            return failure
        except Exception as error:
            # Modules may hold what cannot be copied, and a copy needs memory.
            log.exception("a network could not be copied")
            return self._subject.unfit(title_of(p), f"a copy of it cannot be made ({error})")

    def _weights(self, p: quality_pb2.ModelRandomization) -> frozenset[str]:
        network, layers = self._subject.network, self._subject.layers
        trained = frozenset(name for name, _ in network.module.named_parameters())
        if not trained:
            raise self._subject.unfit(title_of(p), "it has no weights to draw anew")
        if not p.layer:
            return all_weights(network)
        node = layers.node(p.layer)
        if any(each.obstacle == SCRIPTED for each in network.trace.nodes.values()):
            detail = "the network has scripted layers, which may come before it or after it"
            raise layers.unfit(node.name, detail)
        names = weights_from(network, node.calls.start)
        if names.isdisjoint(trained):
            raise layers.unfit(node.name, "neither it nor a layer after it has weights")
        return names


def check_fit(measure: QualityMeasure, judged: Plan) -> None:
    """Raises Failure MEASURE_NOT_APPLICABLE where a measure has nothing to say about a method."""
    if detail := misfit(measure, judged.method):
        raise unfit(measure, judged, detail)


def unfit(measure: QualityMeasure, judged: Plan, detail: str) -> Failure:
    """What a caller is told whose measure has nothing to say about a map."""
    return Failure(
        ErrorReason.ERROR_REASON_MEASURE_NOT_APPLICABLE,
        measure=title_of_measure(measure),
        method=judged.title,
        detail=detail,
    )


def title_of_measure(measure: QualityMeasure) -> str:
    """What the measure is called: "Deletion"."""
    name = measure.WhichOneof("measure")
    assert name
    return title_of(getattr(measure, name))
