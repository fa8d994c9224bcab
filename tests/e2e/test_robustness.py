"""EvaluateRobustness, over both engines: one curve of any number of images."""

import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import pytest

from convlens.contract import Failure, with_defaults
from convlens.v1 import adversarial_pb2 as pb
from convlens.v1 import attack_methods_pb2 as methods
from convlens.v1.adversarial_pb2_grpc import AdversarialServiceStub
from convlens.v1.image_pb2 import Image
from convlens.v1.target_pb2 import Target
from tests.conftest import RunningServer, triton_is_slow
from tests.e2e.test_bad_input import refusal

EPSILONS = [1 / 255, 4 / 255, 16 / 255]
LENGTHS = [0.5, 2.0, 8.0]


def attack(**given: Any) -> methods.AttackMethod:
    """An attack by its name, with parameters."""
    return methods.AttackMethod(**given)


FGSM = attack(fgsm={})
PGD = attack(pgd={"steps": 5, "relative_step_size": 0.4})
DEEP_FOOL = attack(deep_fool={})
LONG = attack(square={"queries": 5000, "epsilon": 1e-6})


@pytest.fixture(scope="module")
def attacking(channel: grpc.Channel) -> Any:
    return AdversarialServiceStub(channel)


def plan(*attacks: methods.AttackMethod, **given: Any) -> pb.RobustnessPlan:
    fields: dict[str, Any] = {"epsilons": EPSILONS, **given}
    return pb.RobustnessPlan(attacks=attacks, **fields)


def image(picture: Path, label: str = "", name: str = "") -> pb.LabeledImage:
    return pb.LabeledImage(
        id=name or picture.stem,
        image=Image(encoded=picture.read_bytes()),
        true_class=Target(label=label or picture.stem.split("-")[0]),
    )


def messages(
    asked: pb.RobustnessPlan, images: Sequence[pb.LabeledImage], size: int = 3
) -> Iterator[pb.EvaluateRobustnessRequest]:
    yield pb.EvaluateRobustnessRequest(plan=asked)
    for start in range(0, len(images), size):
        batch = pb.LabeledImages(images=images[start : start + size])
        yield pb.EvaluateRobustnessRequest(batch=batch)


def evaluated(
    attacking: Any, requests: Iterable[pb.EvaluateRobustnessRequest], timeout: float = 120
) -> list[pb.EvaluateRobustnessResponse]:
    return list(attacking.EvaluateRobustness(iter(requests), timeout=timeout))


def items(events: Sequence[pb.EvaluateRobustnessResponse]) -> dict[str, pb.RobustnessItem]:
    return {event.item.id: event.item for event in events if event.HasField("item")}


def done(events: Sequence[pb.EvaluateRobustnessResponse]) -> pb.RobustnessDone:
    assert events[-1].HasField("done")
    return events[-1].done


def accuracy(points: Iterable[pb.RobustnessPoint], attack: int | None) -> list[float]:
    return [
        point.accuracy
        for point in points
        if (point.attack_index if point.HasField("attack_index") else None) == attack
    ]


def test_the_curve_is_what_the_items_say(attacking: Any, pictures: list[Path]) -> None:
    images = [image(picture) for picture in pictures[:6]]
    wrong = "heart" if not pictures[6].stem.startswith("heart") else "star"
    images.append(image(pictures[6], label=wrong))
    asked = plan(FGSM, PGD, DEEP_FOOL, epsilons_l2=LENGTHS)
    events = evaluated(attacking, messages(asked, images))
    found, end = items(events), done(events)
    assert list(found) and set(found) == {each.id for each in images}
    assert (end.images_done, end.images_failed, end.is_partial) == (7, 0, False)
    assert not found[images[6].id].robustness.clean_correct
    for index, epsilons in ((0, EPSILONS), (1, EPSILONS), (2, LENGTHS)):
        told = accuracy(end.points, index)
        counted = [
            sum(
                item.robustness.clean_correct
                and not (
                    item.robustness.budgets[index].HasField("epsilon")
                    and item.robustness.budgets[index].epsilon <= epsilon
                )
                for item in found.values()
            )
            for epsilon in (0, *epsilons)
        ]
        assert told == [count / 7 for count in counted]
        assert told[0] == 6 / 7 and told[-1] < told[0], "nobody is fooled"
    together = accuracy(end.points, None)
    worst = map(min, accuracy(end.points, 0), accuracy(end.points, 1))
    assert all(both <= single for both, single in zip(together, worst, strict=False))
    cost = end.receipt.cost
    assert 0 < cost.forward_passes <= end.estimated_cost.forward_passes
    assert 0 < cost.backward_passes <= end.estimated_cost.backward_passes
    # One gradient of each image serves every budget of FGSM.
    alone = done(evaluated(attacking, messages(plan(FGSM), images[:6])))
    assert alone.receipt.cost.backward_passes == 6


def test_an_attack_of_the_plan_is_the_attack_of_the_service(
    attacking: Any, pictures: list[Path]
) -> None:
    found = items(evaluated(attacking, messages(plan(FGSM), [image(p) for p in pictures[:4]])))
    for picture in pictures[:4]:
        fooled: list[float] = []
        for epsilon in EPSILONS:
            asked = pb.AttackRequest(
                images=[Image(encoded=picture.read_bytes())],
                method=attack(fgsm={"epsilon": epsilon}),
            )
            [result] = attacking.Attack(asked, timeout=30).results
            if result.verdict.status == pb.ATTACK_STATUS_SUCCEEDED:
                fooled.append(epsilon)
        budget = found[picture.stem].robustness.budgets[0]
        assert ([budget.epsilon] if budget.HasField("epsilon") else []) == fooled[:1]


@triton_is_slow
def test_neither_company_nor_order_nor_pauses_change_the_curve(
    attacking: Any, pictures: list[Path]
) -> None:
    images = [image(picture) for picture in pictures[:4]]
    asked = plan(PGD, attack(square={"queries": 10}), seed=7)
    whole = evaluated(attacking, messages(asked, images, size=4))
    # In the other order, in two calls, the second of which goes on from the first.
    first = evaluated(attacking, messages(asked, images[:2:-1], size=1))
    asked.checkpoint = first[-1].checkpoint
    second = evaluated(attacking, messages(asked, images[2::-1], size=2))
    assert done(second).points == done(whole).points
    assert items(first) | items(second) == items(whole)
    assert done(second).images_done == 4
    # Another id is another random start.
    renamed = [image(picture, name=f"another {n}") for n, picture in enumerate(pictures[:4])]
    asked.ClearField("checkpoint")
    other = done(evaluated(attacking, messages(asked, renamed)))
    assert [p.certainty for p in other.points] != [p.certainty for p in done(whole).points]


def test_a_bad_image_is_counted_and_stops_nobody(attacking: Any, pictures: list[Path]) -> None:
    good = image(pictures[0])
    broken = pb.LabeledImage(
        id="broken", image=Image(encoded=b"no picture"), true_class=good.true_class
    )
    nameless = image(pictures[1], name="unknown class")
    nameless.true_class.label = "sqare"
    ranked = image(pictures[2], name="ranked")
    ranked.true_class.rank = 1
    empty = pb.LabeledImage(id="empty", true_class=good.true_class)
    unlabeled = pb.LabeledImage(id="unlabeled", image=good.image)
    anonymous = pb.LabeledImage(image=good.image, true_class=good.true_class)
    bad = [broken, nameless, ranked, empty, unlabeled, anonymous]
    events = evaluated(attacking, messages(plan(FGSM), [*bad, good]))
    found, end = items(events), done(events)
    assert (end.images_done, end.images_failed) == (7, 6)
    assert {point.images for point in end.points} == {1}
    said = {name: item.error.message for name, item in found.items()}
    assert said[good.id] == ""
    assert "images[1].true_class.label is 'sqare'" in said["unknown class"]
    assert "batch.images[2].true_class is a rank" in said["ranked"]
    assert "image must be set" in said["empty"] and "true_class must be set" in said["unlabeled"]
    assert "id must not be empty" in said[""] or "id must be set" in said[""]
    assert said["broken"]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (plan(), "plan.attacks has 0 entries"),
        (plan(PGD, epsilons=[]), "plan.epsilons is empty"),
        (plan(PGD, epsilons=[0.2, 0.1]), "must be larger than the one before"),
        (plan(PGD, epsilons=[0.0, 0.1]), r"plan.epsilons\[0\] is 0; must be greater than 0"),
        (plan(PGD, epsilons=[0.1, 1.5]), r"plan.epsilons\[1\] is 1.5"),
        (plan(PGD, epsilons=[float("nan")]), r"plan.epsilons\[0\] is nan"),
        (plan(PGD, epsilons_l2=[1]), "of which no attack is"),
        (plan(DEEP_FOOL), "plan.epsilons_l2 is empty; DeepFool"),
        (plan(PGD, checkpoint=b"from elsewhere"), "plan.checkpoint is none that a server sent"),
        (plan(PGD, confidence_level=1.0), "plan.confidence_level"),
        (plan(PGD, network="no such"), "no such"),
        (plan(attack(pgd={"steps": 0})), "steps"),
    ],
)
def test_a_plan_that_means_nothing_is_refused(
    attacking: Any, pictures: list[Path], wrong: pb.RobustnessPlan, words: str
) -> None:
    with pytest.raises(Failure, match=words):
        raise refusal(lambda: evaluated(attacking, messages(wrong, [image(pictures[0])])))


def test_messages_out_of_place_are_refused(attacking: Any, pictures: list[Path]) -> None:
    first, second = messages(plan(FGSM), [image(pictures[0])])
    nobody = pb.EvaluateRobustnessRequest(batch=pb.LabeledImages())
    for wrong, words in (
        ([], "part must be the plan in the first message"),
        ([second], "part must be the plan in the first message"),
        ([first, second, first], "part must be images in every message but the first"),
        ([first, pb.EvaluateRobustnessRequest()], "part must be one of"),
        ([first, nobody], "batch.images has 0 entries"),
    ):
        with pytest.raises(Failure, match=words):
            raise refusal(lambda wrong=wrong: evaluated(attacking, wrong))


def test_what_came_before_a_bad_message_is_not_lost(attacking: Any, pictures: list[Path]) -> None:
    first, second = messages(plan(FGSM), [image(pictures[0])])
    call = attacking.EvaluateRobustness(iter([first, second, first]), timeout=60)
    got: list[pb.EvaluateRobustnessResponse] = []
    with pytest.raises(grpc.RpcError):
        got.extend(call)
    for event in attacking.EvaluateRobustness(iter([first, second, first]), timeout=60):
        got.append(event)
        break
    assert list(items(got)) == [pictures[0].stem]


def test_the_cost_is_counted_without_computing(attacking: Any, pictures: list[Path]) -> None:
    asked = plan(PGD, estimate_only=True)
    [event] = evaluated(attacking, messages(asked, [image(p) for p in pictures[:5]]))
    cost = event.done.estimated_cost
    # Five steps at three budgets.
    assert cost.backward_passes == 5 * 3 * 5
    assert not event.done.HasField("receipt") and not event.done.points


def test_too_much_work_is_refused_before_it_begins(attacking: Any, pictures: list[Path]) -> None:
    much = attack(carlini_wagner={"steps": 10000, "search_steps": 20})
    asked = plan(*[much] * 16, epsilons=[], epsilons_l2=[1.0])
    with pytest.raises(Failure, match="passes"):
        raise refusal(lambda: evaluated(attacking, messages(asked, [image(pictures[0])])))


@triton_is_slow
def test_at_the_deadline_the_curve_so_far_is_the_answer(
    attacking: Any, pictures: list[Path]
) -> None:
    slow = [image(picture, name=str(n)) for n, picture in enumerate(pictures * 20)]
    asked = plan(LONG, FGSM, epsilons=[1e-6], allow_partial=True)
    events = evaluated(attacking, messages(asked, slow), timeout=4)
    end = done(events)
    assert end.is_partial and end.images_done == len(items(events)) < len(slow)
    assert sum(event.HasField("progress") for event in events) >= 2
    asked.allow_partial = False
    with pytest.raises(grpc.RpcError) as raised:
        evaluated(attacking, messages(asked, slow), timeout=2)
    code: Any = raised.value
    assert code.code() == grpc.StatusCode.DEADLINE_EXCEEDED


def test_who_leaves_leaves_nothing_behind(
    attacking: Any, server: RunningServer, pictures: list[Path]
) -> None:
    images = [image(picture, name=str(n)) for n, picture in enumerate(pictures * 20)]
    call = attacking.EvaluateRobustness(messages(plan(LONG), images), timeout=60)
    next(iter(call))
    call.cancel()
    started = time.monotonic()
    [result] = attacking.Attack(
        pb.AttackRequest(images=[images[0].image], method=FGSM), timeout=30
    ).results
    assert result.HasField("verdict")
    assert time.monotonic() - started < 20
    del server


def test_the_receipt_names_the_plan(attacking: Any, pictures: list[Path]) -> None:
    end = done(evaluated(attacking, messages(plan(FGSM, seed=3), [image(pictures[0])])))
    receipt, parameters = end.receipt, pb.RobustnessPlan()
    assert receipt.parameters.Unpack(parameters)
    expected = with_defaults(plan(FGSM, seed=3))
    expected.network = f"{receipt.network}@{receipt.network_version}"
    assert parameters == expected
    assert receipt.seed == 3 and receipt.network_digest and receipt.torch_version
