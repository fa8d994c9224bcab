"""Attack and AttackStream, over both engines: the verdict is the network's own word."""

import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.message import Message
from PIL import Image as Pictures

from convlens.contract import Failure
from convlens.contract.errors import reason_name
from convlens.v1 import adversarial_pb2 as pb
from convlens.v1 import attack_methods_pb2 as methods
from convlens.v1 import image_pb2, tensor_pb2
from convlens.v1.adversarial_pb2_grpc import AdversarialServiceStub
from convlens.v1.classification_pb2 import ClassifyRequest
from convlens.v1.classification_pb2_grpc import ClassificationServiceStub
from convlens.v1.image_pb2 import Image
from convlens.v1.target_pb2 import Target
from tests.e2e.test_bad_input import refusal, refused

EIGHT = 8 / 255
# Each is short, and strong enough for the bundled network.
ATTACKS: dict[str, Message] = {
    "fgsm": methods.FGSM(epsilon=0.1),
    "pgd": methods.PGD(epsilon=EIGHT, steps=10, relative_step_size=0.2),
    "apgd": methods.APGD(epsilon=EIGHT, steps=10),
    "deep_fool": methods.DeepFool(),
    "carlini_wagner": methods.CarliniWagner(search_steps=2, steps=25, initial_c=10),
    "lbfgs": methods.LBFGS(search_steps=2, steps=10),
    "square": methods.Square(epsilon=0.2, queries=60),
    "auto_attack": methods.AutoAttack(epsilon=EIGHT, steps=5, queries=20),
}
# What each may move a value by at most, where there is a budget.
REACH = {"fgsm": 0.1, "pgd": EIGHT, "apgd": EIGHT, "square": 0.2, "auto_attack": EIGHT}


@pytest.fixture(scope="module")
def attacking(channel: grpc.Channel) -> Any:
    return AdversarialServiceStub(channel)


@pytest.fixture(scope="module")
def classifying(channel: grpc.Channel) -> Any:
    return ClassificationServiceStub(channel)


def method(parameters: Message) -> methods.AttackMethod:
    fields: Any = methods.AttackMethod.DESCRIPTOR.fields
    [name] = [field.name for field in fields if field.message_type is parameters.DESCRIPTOR]
    made = methods.AttackMethod()
    getattr(made, name).CopyFrom(parameters)
    return made


def request(pictures: list[Path], wanted: Message, **fields: Any) -> pb.AttackRequest:
    images = [Image(encoded=picture.read_bytes()) for picture in pictures]
    return pb.AttackRequest(images=images, method=method(wanted), **fields)


def verdicts(response: pb.AttackResponse) -> list[pb.AttackVerdict]:
    for result in response.results:
        assert result.HasField("verdict"), result.error
    return [result.verdict for result in response.results]


def pixels(tensor: tensor_pb2.Tensor) -> np.ndarray[Any, Any]:
    return np.frombuffer(tensor.data, "<f4").reshape(tensor.shape)


@pytest.mark.parametrize("name", ATTACKS)
def test_the_verdict_is_what_classify_says_of_the_picture(
    attacking: Any, classifying: Any, pictures: list[Path], name: str
) -> None:
    asked = request(pictures[:2], ATTACKS[name], return_pixels=True)
    response = attacking.Attack(asked, timeout=60)
    found = verdicts(response)
    for verdict in found:
        image = Image(encoded=verdict.png, geometry=verdict.geometry)
        answer = classifying.Classify(ClassifyRequest(images=[image]), timeout=30)
        [first, *_] = answer.results[0].classification.classes
        assert first.label == verdict.after_rounding[0].label
        exact = Image(tensor=verdict.pixels, geometry=image_pb2.GEOMETRY_AS_IS)
        answer = classifying.Classify(ClassifyRequest(images=[exact]), timeout=30)
        assert answer.results[0].classification.classes[0].label == verdict.after[0].label
        fooled = verdict.after[0].class_index != verdict.original_class_index
        assert fooled == (verdict.status == pb.ATTACK_STATUS_SUCCEEDED)
        assert bool(verdict.succeeded_by) == fooled
        fooled = verdict.after_rounding[0].class_index != verdict.original_class_index
        assert fooled == (verdict.rounded_status == pb.ROUNDED_STATUS_SUCCEEDED)
    assert any(verdict.status == pb.ATTACK_STATUS_SUCCEEDED for verdict in found)
    spent, most = response.receipt.cost, response.estimated_cost
    assert 0 < spent.forward_passes <= most.forward_passes
    assert spent.backward_passes <= most.backward_passes
    assert sum(verdict.cost.backward_passes for verdict in found) == spent.backward_passes


@pytest.mark.parametrize("name", REACH)
def test_budgets_hold_and_distances_are_measured(
    attacking: Any, classifying: Any, pictures: list[Path], name: str
) -> None:
    asked = request(pictures[:2], ATTACKS[name], return_pixels=True)
    for verdict in verdicts(attacking.Attack(asked, timeout=60)):
        assert 0 < verdict.distance.linf <= REACH[name], "in double precision, without tolerance"
        values = pixels(verdict.pixels)
        assert (values.min(), values.max()) >= (0, 0) and values.max() <= 1
        eight = np.asarray(Pictures.open(io.BytesIO(verdict.png)))
        assert eight.shape == values.shape == (128, 128, 3)
        assert np.abs(eight / 255 - values).max() <= 1.001 / 255
        d = verdict.distance
        assert d.distortion == pytest.approx(d.l2 / math.sqrt(values.size))
        assert d.l2 <= math.sqrt(d.l0) * d.linf * 1.0001 and d.l1 <= d.l0 * d.linf * 1.0001


def test_an_image_that_is_wrong_already_is_no_success(attacking: Any, pictures: list[Path]) -> None:
    wrong = Target(label="heart" if "heart" not in pictures[0].name else "star")
    asked = request(pictures[:1], ATTACKS["pgd"], true_classes=[wrong], return_pixels=True)
    [verdict] = verdicts(attacking.Attack(asked, timeout=30))
    assert verdict.status == pb.ATTACK_STATUS_ALREADY_MISCLASSIFIED
    assert (verdict.steps, verdict.distance.linf, verdict.succeeded_by) == (0, 0, "")
    assert verdict.cost.forward_passes == 0


def test_targets(attacking: Any, pictures: list[Path]) -> None:
    strong = methods.PGD(epsilon=0.3, steps=30, relative_step_size=0.1)
    for goal in (
        pb.AttackGoal(target=Target(rank=2)),
        pb.AttackGoal(least_likely=pb.LeastLikely()),
    ):
        [verdict] = verdicts(
            attacking.Attack(request(pictures[:1], strong, goal=goal, top_k=10), timeout=60)
        )
        expected = verdict.before[1 if goal.HasField("target") else 9].class_index
        assert verdict.target_class_index == expected
        assert verdict.status == pb.ATTACK_STATUS_SUCCEEDED
        assert verdict.after[0].class_index == expected


def test_company_changes_nothing(attacking: Any, pictures: list[Path]) -> None:
    calls = [
        attacking.Attack.future(request([picture], ATTACKS[name], return_pixels=True), timeout=60)
        for picture in pictures[:2]
        for name in ("pgd", "deep_fool", "square")
    ]
    together = [verdicts(call.result())[0] for call in reversed(calls)][::-1]
    again = iter(together)
    for picture in pictures[:2]:
        for name in ("pgd", "deep_fool", "square"):
            asked = request([picture], ATTACKS[name], return_pixels=True)
            [alone] = verdicts(attacking.Attack(asked, timeout=60))
            assert alone == next(again)


def test_another_seed_is_another_attack(attacking: Any, pictures: list[Path]) -> None:
    found = [
        verdicts(
            attacking.Attack(
                request(pictures[:1], methods.PGD(steps=2), seed=seed, return_pixels=True),
                timeout=30,
            )
        )[0].pixels
        for seed in (1, 1, 2)
    ]
    assert found[0] == found[1] != found[2]


def test_what_cannot_be_shown_in_8_bits_is_said(attacking: Any, pictures: list[Path]) -> None:
    asked = request(pictures[:1], methods.PGD(epsilon=0.5 / 255, steps=3))
    [verdict] = verdicts(attacking.Attack(asked, timeout=30))
    assert verdict.rounded_status == pb.ROUNDED_STATUS_NOT_REPRESENTABLE
    assert not verdict.after_rounding
    assert verdict.png


def test_an_attack_goes_on_until_the_rounded_picture_succeeds(
    attacking: Any, pictures: list[Path]
) -> None:
    plain, rounded = (
        verdicts(
            attacking.Attack(
                request(pictures[:8], methods.DeepFool(), until_rounded_succeeds=until), timeout=60
            )
        )
        for until in (False, True)
    )
    assert any(each.rounded_status == pb.ROUNDED_STATUS_FAILED for each in plain)
    assert all(each.rounded_status == pb.ROUNDED_STATUS_SUCCEEDED for each in rounded)
    assert all(each.status == pb.ATTACK_STATUS_SUCCEEDED for each in (*plain, *rounded))


def test_an_attack_goes_through_the_resizing_of_the_photo(
    attacking: Any, classifying: Any, pictures: list[Path]
) -> None:
    wanted = methods.PGD(epsilon=2 * EIGHT, steps=40, relative_step_size=0.1)
    asked = request(pictures[:2], wanted, through_resize=True, until_rounded_succeeds=True)
    for picture, verdict in zip(
        pictures, verdicts(attacking.Attack(asked, timeout=60)), strict=False
    ):
        assert verdict.rounded_status == pb.ROUNDED_STATUS_SUCCEEDED
        before = np.asarray(Pictures.open(picture).convert("RGB"), dtype=int)
        after = np.asarray(Pictures.open(io.BytesIO(verdict.png)), dtype=int)
        assert after.shape == before.shape == (256, 256, 3)
        assert 0 < np.abs(after - before).max() <= 16
        assert verdict.geometry == image_pb2.GEOMETRY_NETWORK
        image = Image(encoded=verdict.png, geometry=verdict.geometry)
        answer = classifying.Classify(ClassifyRequest(images=[image]), timeout=30)
        [first, *_] = answer.results[0].classification.classes
        assert first.class_index == verdict.after_rounding[0].class_index
        assert first.class_index != verdict.original_class_index


BAD: dict[str, tuple[Callable[[pb.AttackRequest], object], str]] = {
    "no budget": (lambda r: setattr(r.method.pgd, "epsilon", 0), "greater than 0"),
    "a negative budget": (lambda r: setattr(r.method.pgd, "epsilon", -1), "greater than 0"),
    "a budget above 1": (lambda r: setattr(r.method.pgd, "epsilon", 1.5), "at most 1"),
    "no steps": (lambda r: setattr(r.method.pgd, "steps", 0), "at least 1"),
    "no such label": (
        lambda r: r.goal.target.CopyFrom(Target(label="cat")),
        "goal.target.label",
    ),
    "labels for others": (
        lambda r: r.true_classes.extend([Target(rank=1)] * 3),
        "one for each of 1",
    ),
    "no method": (lambda r: r.method.Clear(), "method"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_done_is_refused_with_what_can(
    attacking: Any, pictures: list[Path], name: str
) -> None:
    change, words = BAD[name]
    asked = request(pictures[:1], methods.PGD())
    change(asked)
    assert words in str(refusal(lambda: attacking.Attack(asked, timeout=30)))


def test_a_target_that_the_image_is_already_is_its_own_error(
    attacking: Any, pictures: list[Path]
) -> None:
    asked = request(pictures[:1], methods.PGD(steps=2), goal=pb.AttackGoal(target=Target(rank=1)))
    [result] = attacking.Attack(asked, timeout=30).results
    failure = Failure.from_status(result.error)
    assert failure and reason_name(failure.reason) == "INVALID_REQUEST"
    assert "the class of image 0 already" in str(failure)


def test_a_bad_image_is_alone_with_it(attacking: Any, pictures: list[Path]) -> None:
    asked = request(pictures[:2], methods.FGSM())
    asked.images[0].encoded = b"no picture"
    bad, good = attacking.Attack(asked, timeout=30).results
    failure = Failure.from_status(bad.error)
    assert failure and reason_name(failure.reason) == "IMAGE_UNREADABLE"
    assert good.HasField("verdict")


def test_at_the_deadline_there_is_the_best_so_far(attacking: Any, pictures: list[Path]) -> None:
    long = methods.PGD(epsilon=1e-4, steps=10_000)
    asked = request(pictures[:2], long, allow_partial=True)
    for verdict in verdicts(attacking.Attack(asked, timeout=2)):
        assert verdict.status == pb.ATTACK_STATUS_DEADLINE
        assert verdict.rounded_status == pb.ROUNDED_STATUS_NOT_JUDGED
        assert 0 < verdict.steps < 10_000
        assert 0 < verdict.distance.linf <= 1e-4
    asked.allow_partial = False
    with refused() as late:
        attacking.Attack(asked, timeout=1)
    assert late.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


def test_a_stream_has_what_the_call_has(attacking: Any, pictures: list[Path]) -> None:
    asked = request(pictures[:3], ATTACKS["pgd"])
    asked.images[1].encoded = b"no picture"
    response = attacking.Attack(asked, timeout=30)
    *before, last = attacking.AttackStream(pb.AttackStreamRequest(request=asked), timeout=30)
    assert last.done.receipt.parameters == response.receipt.parameters
    items = [event.item for event in before if event.HasField("item")]
    assert all(item.is_final for item in items)
    found = {item.image_index: item.result for item in items}
    assert [found[index] for index in range(3)] == list(response.results)


def test_a_stream_tells_of_progress_and_of_the_best_so_far(
    attacking: Any, pictures: list[Path]
) -> None:
    asked = request(
        pictures[:2], methods.PGD(epsilon=0.02, steps=40), stop_at_success=False, return_pixels=True
    )
    told = pb.AttackStreamRequest(request=asked, partial_items=True, min_interval_ms=0)
    events = list(attacking.AttackStream(told, timeout=60))
    progress = [event.progress for event in events if event.HasField("progress")]
    assert progress[-1].images == 2
    costs = [each.cost.backward_passes for each in progress]
    assert costs == sorted(costs) and costs[0] < costs[-1]
    versions = [event.item for event in events if event.HasField("item")]
    first = [item.result.verdict for item in versions if item.image_index == 0]
    assert len(first) > 3
    assert [item.is_final for item in versions if item.image_index == 0][-1]
    under_way = {(verdict.status, verdict.rounded_status) for verdict in first[:-1]}
    assert under_way == {(pb.ATTACK_STATUS_IN_PROGRESS, pb.ROUNDED_STATUS_NOT_JUDGED)}
    steps = [verdict.steps for verdict in first]
    assert steps == sorted(steps) and steps[0] < steps[-1]


def test_the_cost_alone(attacking: Any, pictures: list[Path]) -> None:
    asked = request(pictures[:3], methods.PGD(steps=7, restarts=2), estimate_only=True)
    response = attacking.Attack(asked, timeout=30)
    assert not response.results and not response.HasField("receipt")
    most = response.estimated_cost
    assert (most.forward_passes, most.backward_passes) == (3 * (3 + 16), 3 * 14)


@pytest.mark.parametrize("name", ["pgd", "apgd", "square", "auto_attack"])
@pytest.mark.parametrize(
    ("given", "wrong"),
    [
        ({"epsilon_l2": 0.05}, "epsilon_l2"),
        ({"norm": methods.NORM_L2, "epsilon": 0.1}, "epsilon"),
        ({"norm": methods.NORM_LINF, "epsilon": 0.1, "epsilon_l2": 1}, "epsilon_l2"),
    ],
)
def test_the_budget_of_another_norm_is_refused(
    attacking: Any, pictures: list[Path], name: str, given: dict[str, Any], wrong: str
) -> None:
    parameters: dict[str, Any] = {name: given}
    images = [Image(encoded=pictures[0].read_bytes())]
    asked = pb.AttackRequest(images=images, method=methods.AttackMethod(**parameters))
    words = rf"method.{name}.{wrong} is the budget under NORM_\w+; set norm"
    with pytest.raises(Failure, match=words):
        raise refusal(lambda: attacking.Attack(asked, timeout=30))
