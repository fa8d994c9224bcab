"""Attacks on networks that are not as attacks want them: nothing is silent."""

import sys
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.message import Message

from convlens.contract import Failure
from convlens.contract.errors import ErrorReason
from convlens.v1 import adversarial_pb2 as pb
from convlens.v1 import attack_methods_pb2 as methods
from convlens.v1 import tensor_pb2
from convlens.v1.adversarial_pb2_grpc import AdversarialServiceStub
from convlens.v1.explanation_methods_pb2 import Occlusion, Saliency
from convlens.v1.explanation_pb2_grpc import ExplanationServiceStub
from convlens.v1.image_pb2 import Image
from convlens.v1.target_pb2 import Target
from tests.conftest import running_server
from tests.e2e.test_attack import method
from tests.e2e.test_bad_input import refusal
from tests.e2e.test_explain import request

MODULE = """\
import torch
from torch import nn


class Then(nn.Module):
    def __init__(self, last):
        super().__init__()
        torch.manual_seed(0)
        self.features = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.Flatten())
        self.head = nn.Linear(8 * 15 * 15, 4)
        self.last = last

    def forward(self, x):
        return self.last(5 * self.head(self.features(x)))


def probabilities():
    return Then(lambda scores: scores.softmax(1))


def detached():
    return Then(lambda scores: scores.detach() * 2)


def numpied():
    return Then(lambda scores: torch.from_numpy(scores.detach().numpy() * 2))


def stepped():
    return Then(lambda scores: (scores * 4).round())


def broken():
    # Of pictures that are brighter than most it knows nothing.
    return Then(lambda scores: torch.where(scores.abs() > 1e-9, scores, torch.nan) / 0)
"""
NAMES = ("probabilities", "detached", "numpied", "stepped", "broken")
WHITE: dict[str, Message] = {
    "fgsm": methods.FGSM(epsilon=0.1),
    "pgd": methods.PGD(epsilon=0.1, steps=5),
    "apgd": methods.APGD(epsilon=0.1, steps=5),
    "deep_fool": methods.DeepFool(),
    "carlini_wagner": methods.CarliniWagner(search_steps=1, steps=5),
    "lbfgs": methods.LBFGS(search_steps=1, steps=2),
}


@pytest.fixture(scope="module")
def channel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[grpc.Channel]:
    folder = tmp_path_factory.mktemp("odd")
    (folder / "odd_networks.py").write_text(MODULE)
    entries = "".join(
        f"  - {{name: {name}, builder: 'odd_networks:{name}', labels: [a, b, c, d],\n"
        "     input: {size: 32, mean: [0.5, 0.5, 0.5], std: [0.25, 0.25, 0.25]}}\n"
        for name in NAMES
    )
    file = folder / "networks.yaml"
    file.write_text(f"networks:\n{entries}")
    path = list(sys.path)
    with running_server(engine="embedded", networks=file) as server, server.channel() as opened:
        yield opened
    sys.path[:] = path
    sys.modules.pop("odd_networks", None)


@pytest.fixture(scope="module")
def attacking(channel: grpc.Channel) -> Any:
    return AdversarialServiceStub(channel)


def image(seed: int = 0) -> Image:
    noise = np.random.default_rng(seed).integers(0, 256, (32, 32, 3), np.uint8)
    tensor = tensor_pb2.Tensor(
        dtype=tensor_pb2.DATA_TYPE_UINT8, shape=noise.shape, data=noise.tobytes()
    )
    return Image(tensor=tensor)


def attack(attacking: Any, network: str, wanted: Message, **given: Any) -> pb.AttackResult:
    asked = pb.AttackRequest(network=network, images=[image()], method=method(wanted), **given)
    [result] = attacking.Attack(asked, timeout=60).results
    return result


@pytest.mark.parametrize("name", WHITE)
def test_outputs_that_are_probabilities_are_flagged(attacking: Any, name: str) -> None:
    verdict = attack(attacking, "probabilities", WHITE[name]).verdict
    assert pb.ATTACK_FLAG_PROBABILITY_OUTPUTS in verdict.flags


@pytest.mark.parametrize("network", ["detached", "numpied"])
@pytest.mark.parametrize("name", WHITE)
def test_a_network_without_gradients_is_refused(attacking: Any, network: str, name: str) -> None:
    failure = refusal(lambda: attack(attacking, network, WHITE[name]))
    assert failure.reason == ErrorReason.ERROR_REASON_METHOD_NOT_APPLICABLE
    assert "no gradients" in str(failure) and "use Square" in str(failure)


@pytest.mark.parametrize("network", ["detached", "stepped"])
def test_square_needs_no_gradients(attacking: Any, network: str) -> None:
    wanted = methods.Square(epsilon=0.5, queries=300)
    assert attack(attacking, network, wanted).verdict.status == pb.ATTACK_STATUS_SUCCEEDED


def test_a_gradient_of_zero_is_flagged(attacking: Any) -> None:
    for name in ("fgsm", "pgd", "apgd", "deep_fool"):
        verdict = attack(attacking, "stepped", WHITE[name]).verdict
        assert pb.ATTACK_FLAG_ZERO_GRADIENT in verdict.flags, name
        assert verdict.status != pb.ATTACK_STATUS_SUCCEEDED


def test_auto_says_what_a_network_hides(attacking: Any) -> None:
    auto = methods.AutoAttack(epsilon=0.5, steps=3, queries=300, target_classes=2)
    verdict = attack(attacking, "stepped", auto).verdict
    assert verdict.succeeded_by == "Square"
    assert {pb.ATTACK_FLAG_ZERO_GRADIENT, pb.ATTACK_FLAG_BLACK_BOX_STRONGER} <= {*verdict.flags}


@pytest.mark.parametrize("name", ["pgd", "deep_fool"])
def test_scores_that_are_no_numbers_are_an_error(attacking: Any, name: str) -> None:
    failure = Failure.from_status(attack(attacking, "broken", WHITE[name]).error)
    assert failure is not None and failure.reason == ErrorReason.ERROR_REASON_NOT_FINITE


def test_a_curve_of_such_networks_says_so(attacking: Any) -> None:
    pgd = methods.AttackMethod(pgd=methods.PGD(steps=3))
    labeled = [pb.LabeledImage(id=c, image=image(), true_class=Target(label=c)) for c in "abcd"]

    def items(network: str) -> list[pb.RobustnessItem]:
        plan = pb.RobustnessPlan(network=network, attacks=[pgd], epsilons=[0.1])
        batch = pb.LabeledImages(images=labeled)
        messages = (
            pb.EvaluateRobustnessRequest(plan=plan),
            pb.EvaluateRobustnessRequest(batch=batch),
        )
        events = attacking.EvaluateRobustness(iter(messages), timeout=60)
        return [event.item for event in events if event.HasField("item")]

    [right] = [item for item in items("stepped") if item.robustness.clean_correct]
    [budget] = right.robustness.budgets
    assert list(budget.flags) == [pb.ATTACK_FLAG_ZERO_GRADIENT] and not budget.HasField("epsilon")
    assert all("no finite numbers" in item.error.message for item in items("broken"))
    assert "use Square" in str(refusal(lambda: items("detached")))


def test_what_needs_no_gradients_explains_them(attacking: Any, channel: grpc.Channel) -> None:
    explaining: Any = ExplanationServiceStub(channel)

    def explained(parameters: Message) -> Any:
        asked = request([], parameters)
        asked.images.append(image())
        asked.network = "numpied"
        return explaining.Explain(asked, timeout=60)

    [result] = explained(Occlusion(window=8, stride=8)).results
    assert result.explanation.attributions[0].HasField("attribution")
    [result] = explained(Saliency()).results
    assert "use occlusion" in result.explanation.attributions[0].error.message
