"""Quality scores on the bundled network, as a caller sees them."""

from pathlib import Path
from typing import Any

import grpc
import pytest

from convlens.contract import Failure
from convlens.contract.errors import reason_name
from convlens.v1 import explanation_methods_pb2 as methods
from convlens.v1 import geometry_pb2
from convlens.v1 import quality_pb2 as quality
from convlens.v1.explanation_pb2_grpc import ExplanationServiceStub
from convlens.v1.quality_pb2 import QualityMeasure
from tests.conftest import triton_is_slow
from tests.e2e.test_explain import request

MEASURES = [
    QualityMeasure(deletion=quality.Deletion()),
    QualityMeasure(insertion=quality.Insertion()),
    QualityMeasure(completeness=quality.Completeness()),
    QualityMeasure(max_sensitivity=quality.MaxSensitivity(samples=4)),
    QualityMeasure(model_randomization=quality.ModelRandomization()),
    QualityMeasure(pointing_game=quality.PointingGame()),
    QualityMeasure(region_overlap=quality.RegionOverlap()),
]


@pytest.fixture(scope="module")
def explaining(channel: grpc.Channel) -> Any:
    return ExplanationServiceStub(channel)


@triton_is_slow
def test_every_measure_judges_every_map(explaining: Any, pictures: list[Path]) -> None:
    region = quality.TrueRegion(box=geometry_pb2.Box(left=0, top=0, right=256, bottom=256))
    wanted = (methods.IntegratedGradients(steps=16, max_steps=16), methods.GradCam())
    asked = request(pictures[:2], *wanted, measures=MEASURES, true_regions=[region, region], seed=3)
    response = explaining.Explain(asked, timeout=60)
    again = explaining.Explain(asked, timeout=60)
    assert list(again.results) == list(response.results), "scores come out the same again"
    spent, most = response.receipt.cost, response.estimated_cost
    assert spent.forward_passes <= most.forward_passes <= spent.forward_passes + 4
    for result in response.results:
        integrated, cam = (each.attribution for each in result.explanation.attributions)
        assert all(score.HasField("value") for score in integrated.scores)
        deletion, insertion, completeness, sensitivity, randomization, pointing, overlap = (
            score.value for score in integrated.scores
        )
        assert len(deletion.curve) == len(insertion.curve) == 65
        assert deletion.curve[0] == pytest.approx(insertion.curve[-1], abs=1e-4)
        assert 0 <= deletion.score < insertion.score <= 1, "the map knows what matters"
        assert abs(completeness.score) == pytest.approx(
            integrated.error_estimate.absolute, rel=1e-3, abs=1e-4
        )
        assert sensitivity.score > 0
        assert -0.9 < randomization.score < 0.9
        assert pointing.score == 1 and 0 < overlap.score <= 1
        failure = Failure.from_status(cam.scores[2].error)
        assert failure and reason_name(failure.reason) == "MEASURE_NOT_APPLICABLE"
        assert str(failure).startswith("Completeness cannot judge Grad-CAM: its numbers are no")
        assert [score.measure for score in cam.scores] == [s.measure for s in integrated.scores]
        assert cam.scores[0].measure.deletion.steps == 64
