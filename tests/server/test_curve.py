"""The robustness curve: counts, intervals, and going on from a checkpoint."""

import math
import random
from collections.abc import Callable
from typing import Any

import pytest

from convlens.contract import Failure, with_defaults
from convlens.internal.v1.robustness_pb2 import (
    Certainties,
    RobustnessCheckpoint,
    RobustnessResponse,
)
from convlens.server.curve import Curve
from convlens.server.intervals import mean, wilson
from convlens.v1 import adversarial_pb2 as pb
from convlens.v1 import attack_methods_pb2 as methods

EPSILONS, LENGTHS = [0.01, 0.02, 0.03], [0.5, 1.0]


def attack(**given: Any) -> methods.AttackMethod:
    return methods.AttackMethod(**given)


PGD, FGSM, CW = attack(pgd={}), attack(fgsm={}), attack(carlini_wagner={})


def plan(**given: Any) -> pb.RobustnessPlan:
    fields: dict[str, Any] = {"attacks": [PGD, CW, FGSM], "epsilons": EPSILONS}
    fields |= {"epsilons_l2": LENGTHS, "network": "net@1", **given}
    return with_defaults(pb.RobustnessPlan(**fields))


def image(chance: random.Random) -> RobustnessResponse:
    """What a worker may have found."""
    made = RobustnessResponse(certainty=chance.random())
    made.robustness.clean_correct = chance.random() < 0.9
    made.cost.forward_passes, made.cost.backward_passes = chance.randint(1, 9), 3
    if made.robustness.clean_correct:
        for budgets in (EPSILONS, LENGTHS, EPSILONS):
            smallest = chance.choice([None, *budgets])
            made.robustness.budgets.append(pb.SmallestBudget(epsilon=smallest))
            falling = sorted((chance.random() * made.certainty for _ in budgets), reverse=True)
            made.attacked.append(Certainties(certainties=falling))
    return made


def images(count: int, seed: int = 0) -> list[RobustnessResponse]:
    chance = random.Random(seed)
    return [image(chance) for _ in range(count)]


def curve(found: list[RobustnessResponse], **given: Any) -> Curve:
    made = Curve(plan(**given), "digest")
    for each in found:
        made.add(each)
    return made


def expected(found: list[RobustnessResponse], attacks: list[int], step: int) -> tuple[int, float]:
    """Images that stay right, and the mean certainty, counted one by one."""
    right, total = 0, 0.0
    for each in found:
        if not each.robustness.clean_correct:
            total += each.certainty
            continue
        if step == 0:
            right, total = right + 1, total + each.certainty
            continue
        budgets = LENGTHS if attacks == [1] else EPSILONS
        fooled = False
        for attack in attacks:
            smallest = each.robustness.budgets[attack]
            fooled |= smallest.HasField("epsilon") and smallest.epsilon <= budgets[step - 1]
        right += not fooled
        total += min(each.attacked[attack].certainties[step - 1] for attack in attacks)
    return right, total / len(found)


def test_points_count_every_image_once() -> None:
    found = images(50)
    points = curve(found).points()
    order = [([0], 4), ([1], 3), ([2], 4), ([0, 2], 4), ([1], 3)]
    assert len(points) == sum(count for _, count in order)
    numbered = iter(points)
    for position, (attacks, count) in enumerate(order):
        series = [next(numbered) for _ in range(count)]
        assert [p.HasField("attack_index") for p in series] == [position < 3] * count
        budgets = LENGTHS if attacks == [1] else EPSILONS
        assert [p.epsilon for p in series] == [0, *budgets]
        for step, point in enumerate(series):
            right, certainty = expected(found, attacks, step)
            assert (point.correct, point.images) == (right, 50)
            assert point.accuracy == right / 50
            assert point.certainty == pytest.approx(certainty, abs=1e-8)
            assert point.accuracy_low < point.accuracy < point.accuracy_high
            assert point.certainty_low < point.certainty < point.certainty_high


def test_neither_order_nor_pauses_change_a_bit() -> None:
    found = images(60)
    whole = curve(found)
    assert curve(found[::-1]).checkpoint() == whole.checkpoint()
    paused = curve(found[:23])
    paused.fail()
    resumed = curve(found[23:], checkpoint=paused.checkpoint())
    assert resumed.points() == whole.points()
    done = resumed.done()
    assert (done.images_done, done.images_failed) == (61, 1)
    assert resumed.cost == whole.cost


def test_nothing_is_said_of_no_images() -> None:
    empty = curve([])
    empty.fail()
    assert empty.points() == []
    assert (empty.done().images_done, empty.done().images_failed) == (1, 1)


def test_a_checkpoint_is_of_its_plan_and_network() -> None:
    saved = curve(images(5)).checkpoint()
    Curve(plan(checkpoint=saved, allow_partial=True, confidence_level=0.9), "digest")
    others: list[dict[str, Any]] = [
        {"epsilons": [0.01, 0.02, 0.04]},
        {"seed": 1},
        {"attacks": [PGD, CW, attack(fgsm={"epsilon": 0.5})]},
        {"require_rounded": True},
        {"network": "net@2"},
    ]
    for other in others:
        with pytest.raises(Failure, match="another plan or network"):
            Curve(plan(checkpoint=saved, **other), "digest")
    with pytest.raises(Failure, match="another plan or network"):
        Curve(plan(checkpoint=saved), "other weights")


def test_a_broken_checkpoint_is_refused() -> None:
    saved = curve(images(5)).checkpoint()
    for broken in (b"\xff" * 20, saved[: len(saved) // 2], b"x"):
        with pytest.raises(Failure, match="checkpoint"):
            Curve(plan(checkpoint=broken), "digest")


def break_images(state: RobustnessCheckpoint) -> None:
    state.images_done = 2**64 - 1


def break_cost(state: RobustnessCheckpoint) -> None:
    state.cost.forward_passes = 2**64 - 1


def break_count(state: RobustnessCheckpoint) -> None:
    state.tallies[3].correct = 7


def break_order(state: RobustnessCheckpoint) -> None:
    state.tallies[1].correct = state.tallies[2].correct - 1


def break_certainty(state: RobustnessCheckpoint) -> None:
    state.tallies[2].certainty = 6 * 2**32


def break_length(state: RobustnessCheckpoint) -> None:
    del state.tallies[-1]


@pytest.mark.parametrize(
    "broken",
    [break_images, break_cost, break_count, break_order, break_certainty, break_length],
)
def test_a_checkpoint_that_nobody_counted_is_refused(
    broken: Callable[[RobustnessCheckpoint], None],
) -> None:
    state = RobustnessCheckpoint.FromString(curve(images(5)).checkpoint())
    Curve(plan(checkpoint=state.SerializeToString()), "digest")
    broken(state)
    with pytest.raises(Failure, match="contradicts itself"):
        Curve(plan(checkpoint=state.SerializeToString()), "digest")


def test_wilson_is_the_interval_of_the_textbooks() -> None:
    # Newcombe 1998, doi:10.1002/(SICI)1097-0258(19980430)17:8<857::AID-SIM777>3.0.CO;2-E, table I.
    normal = 1.959963984540054
    for correct, count, low, high in [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ]:
        assert wilson(correct, count, normal) == pytest.approx((low, high), abs=5e-5)
    for count in range(1, 400):
        assert wilson(0, count, normal)[0] == 0
        assert wilson(count, count, normal)[1] == 1
        for correct in range(count + 1):
            low, high = wilson(correct, count, normal)
            assert low <= correct / count <= high


def test_any_level_below_one_has_its_interval() -> None:
    found = images(5)
    for level in (1e-9, 0.5, 0.999999, math.nextafter(1, 0)):
        for point in curve(found, confidence_level=level).points():
            assert 0 <= point.accuracy_low <= point.accuracy <= point.accuracy_high <= 1


def test_the_interval_of_a_mean() -> None:
    numbers = [0.2, 0.4, 0.9, 0.7]
    squared = sum(number**2 for number in numbers)
    middle, low, high = mean(sum(numbers), squared, 4, 2.0)
    # Their standard deviation is 0.31091; of the mean, half of it.
    assert (middle, low, high) == pytest.approx((0.55, 0.55 - 0.31091, 0.55 + 0.31091), abs=1e-4)
    assert mean(0.7, 0.49, 1, 2.0) == (0.7, 0, 1)
    assert mean(3.0, 3.0, 3, 2.0) == (1, 1, 1)
