"""What requests are taken to cost."""

from typing import Any

import pytest

from convlens.contract import with_defaults
from convlens.contract.attack_cost import attack_cost
from convlens.contract.cost import explain_cost
from convlens.internal.v1.robustness_pb2 import RobustnessRequest
from convlens.server.admission import is_partial, price
from convlens.v1 import adversarial_pb2 as adversarial
from convlens.v1 import attack_methods_pb2 as attacks
from convlens.v1 import explanation_methods_pb2 as methods
from convlens.v1 import explanation_pb2 as explanation
from convlens.v1 import network_pb2, quality_pb2, synthesis_methods_pb2, synthesis_pb2
from convlens.v1.classification_pb2 import ClassifyRequest
from convlens.v1.feature_pb2 import ExtractFeaturesRequest
from convlens.v1.image_pb2 import Image
from convlens.v1.target_pb2 import Target

NETWORK = network_pb2.Network(
    labels=list("abcdefghij"), input=network_pb2.InputGeometry(height=64, width=64, channels=3)
)
IMAGES = [Image(encoded=b"\xff" * 1000)] * 3


def total(cost: Any) -> int:
    return cost.forward_passes + cost.backward_passes


def test_images_of_the_inference_pool() -> None:
    assert price(ClassifyRequest(images=IMAGES), NETWORK) == 3
    assert price(ExtractFeaturesRequest(images=IMAGES), NETWORK) == 3


@pytest.mark.parametrize(
    "method",
    [
        methods.ExplanationMethod(saliency=methods.Saliency()),
        methods.ExplanationMethod(smooth_grad=methods.SmoothGrad(samples=7)),
        methods.ExplanationMethod(integrated_gradients=methods.IntegratedGradients()),
        methods.ExplanationMethod(occlusion=methods.Occlusion(window=8, stride=4)),
    ],
)
def test_explanations_cost_what_the_contract_says(method: methods.ExplanationMethod) -> None:
    request = explanation.ExplainRequest(
        images=IMAGES,
        methods=[method, method],
        targets=[Target(class_index=1), Target(class_index=2)],
        measures=[quality_pb2.QualityMeasure(deletion=quality_pb2.Deletion())],
    )
    expected = total(explain_cost(with_defaults(request), NETWORK))
    assert price(request, NETWORK) == expected > 6
    assert price(explanation.ExplainStreamRequest(request=request), NETWORK) == expected


def test_attacks_cost_what_the_contract_says() -> None:
    request = adversarial.AttackRequest(
        images=IMAGES,
        method=attacks.AttackMethod(pgd=attacks.PGD(steps=10)),
        until_rounded_succeeds=True,
    )
    expected = total(attack_cost(with_defaults(request), 10))
    assert price(request, NETWORK) == expected
    assert price(adversarial.AttackStreamRequest(request=request), NETWORK) == expected


def test_an_image_of_an_evaluation() -> None:
    method = attacks.AttackMethod(pgd=attacks.PGD(steps=10))
    plan = adversarial.RobustnessPlan(attacks=[method], epsilons=[0.01, 0.02])
    image = adversarial.LabeledImage(image=IMAGES[0])
    assert price(RobustnessRequest(plan=plan), NETWORK) == 1
    assert price(RobustnessRequest(plan=plan, image=image), NETWORK) > 20


def test_synthesis() -> None:
    model = synthesis_methods_pb2.ClassModel(steps=50)
    request = synthesis_pb2.SynthesizeRequest(
        method=synthesis_methods_pb2.SynthesisMethod(class_model=model)
    )
    assert price(request, NETWORK) >= 100


def test_an_estimate_costs_next_to_nothing() -> None:
    method = methods.ExplanationMethod(saliency=methods.Saliency())
    request = explanation.ExplainRequest(images=IMAGES, methods=[method], estimate_only=True)
    assert price(request, NETWORK) == 1


def test_the_network_matters() -> None:
    method = methods.ExplanationMethod(occlusion=methods.Occlusion(window=8, stride=4))
    request = explanation.ExplainRequest(images=IMAGES, methods=[method])
    larger = network_pb2.Network()
    larger.CopyFrom(NETWORK)
    larger.input.height = larger.input.width = 128
    assert price(request, larger) > 3 * price(request, NETWORK)


def test_who_takes_a_part_of_the_answer() -> None:
    request = explanation.ExplainRequest(images=IMAGES, allow_partial=True)
    assert is_partial(request)
    assert is_partial(explanation.ExplainStreamRequest(request=request))
    assert not is_partial(explanation.ExplainRequest(images=IMAGES))
    assert not is_partial(ClassifyRequest(images=IMAGES))
