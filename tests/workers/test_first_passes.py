"""What a method begins with comes with the picture's scores, for every class that is named."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from convlens.contract import Failure
from convlens.v1 import explanation_methods_pb2 as methods
from convlens.v1.image_pb2 import Image
from convlens.v1.target_pb2 import Target
from convlens.workers.catalog import load_network
from convlens.workers.config import NetworkEntry, PoolConfig
from convlens.workers.methods.goals import Score
from convlens.workers.runner import Outputs
from convlens.workers.worker import AnalysisWorker
from tests.workers.test_judging import ask, request, told

CLASSES = [Target(class_index=index) for index in range(10)]
BEST = Target(rank=1)


@pytest.fixture(scope="module")
def worker() -> Iterator[AnalysisWorker]:
    made = AnalysisWorker(load_network(NetworkEntry(name="shapes"), "cpu"), PoolConfig())
    yield made
    made.close()


@pytest.mark.parametrize(
    ("count", "targets", "passes"),
    [
        (1, CLASSES, (1, 10)),
        # The prediction is one of the classes, and nothing is computed for it beside that.
        (1, [BEST, *CLASSES], (1, 10)),
        (1, [BEST], (1, 1)),
        (1, [], (1, 1)),
        # Which class is the second is known after the scores are.
        (1, [Target(rank=2)], (2, 1)),
        # The first map of several pictures does not wait for all classes of each.
        (2, CLASSES[:3], (4, 6)),
    ],
)
def test_what_is_computed(
    worker: AnalysisWorker,
    pictures: list[Path],
    count: int,
    targets: list[Target],
    passes: tuple[int, int],
) -> None:
    asked = request(pictures[0], [methods.Saliency(), methods.InputXGradient()], [])
    asked.images.extend(Image(encoded=each.read_bytes()) for each in pictures[1:count])
    asked.targets.extend(targets)
    cost = ask(worker, asked).receipt.cost
    assert (cost.forward_passes, cost.backward_passes) == passes


@pytest.mark.parametrize(
    ("beside", "passes"),
    [
        ([], (18, 16)),
        ([methods.Saliency()], (18, 17)),
        ([methods.Occlusion(window=16, stride=16)], (82, 16)),
    ],
)
def test_integrated_gradients_ask_nothing_of_the_picture_that_is_known(
    worker: AnalysisWorker, pictures: list[Path], beside: list[Any], passes: tuple[int, int]
) -> None:
    p = methods.IntegratedGradients(steps=16, max_steps=16)
    asked = request(pictures[0], [p, *beside], [])
    asked.targets.append(CLASSES[3])
    answer = ask(worker, asked)
    cost = answer.receipt.cost
    assert (cost.forward_passes, cost.backward_passes) == passes
    found = answer.results[0].explanation.attributions[0].attribution
    assert found.integrated_gradients.score == pytest.approx(found.target.logit)


def test_windows_that_are_checked_are_in_the_estimate(
    worker: AnalysisWorker, pictures: list[Path]
) -> None:
    p = methods.Occlusion(window=32, stride=16, projective_threshold=0.4)
    answer = ask(worker, request(pictures[0], [p], []))
    assert answer.results[0].explanation.attributions[0].attribution.HasField("error_estimate")
    # The picture, 49 windows, and eight of them again by whole passes.
    assert answer.receipt.cost.forward_passes == 1 + 49 + 8
    # It counts the picture once for its scores and once for the method.
    assert answer.estimated_cost.forward_passes == 2 + 49 + 8


def test_a_class_that_breaks_is_alone_with_it(
    worker: AnalysisWorker, pictures: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = Score.__call__

    def breaking(score: Score, outputs: Outputs) -> Tensor:
        if score.target == 3:
            raise RuntimeError("planted: no score")
        return usual(score, outputs)

    monkeypatch.setattr(Score, "__call__", breaking)
    asked = request(pictures[0], [methods.Saliency()], [])
    asked.targets.extend(CLASSES)
    [result] = ask(worker, asked).results
    found = result.explanation.attributions
    assert [each.HasField("attribution") for each in found] == [n != 3 for n in range(10)]
    assert told(Failure.from_status(found[3].error))[0] == "INTERNAL"
    asked.ClearField("targets")
    asked.targets.append(Target(class_index=3))
    [result] = ask(worker, asked).results
    assert result.HasField("error") or result.explanation.attributions[0].HasField("error")
