"""What a FakeServer says to EvaluateRobustness."""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any

from convlens.client._fake_basics import (
    EMPTY,
    LABELS,
    NAME,
    SCORES,
    check_network,
    class_of,
    has_pixels,
    invalid,
    receipt_for,
)
from convlens.contract import Failure, check, digest, with_defaults
from convlens.contract.attacks import norm_of
from convlens.contract.robustness import budgets_of, check_plan, robustness_cost
from convlens.v1 import adversarial_pb2 as pb
from convlens.v1 import attack_methods_pb2 as methods
from convlens.v1 import receipt_pb2

# Images between two messages of progress.
OFTEN = 8
# Certainty of the true class where the network is right under attack, and where it is not.
RIGHT, WRONG = 0.8, 0.2
# What does not make a plan another one.
IN_PASSING = ("checkpoint", "allow_partial", "estimate_only", "confidence_level")


def evaluate(
    requests: Iterator[pb.EvaluateRobustnessRequest],
) -> Iterator[pb.EvaluateRobustnessResponse]:
    """Attacks succeed within a budget that an image's id and the seed decide, or within none.

    Images of a dog are misclassified from the start; one without pixels has an error.
    """
    plan = _plan(next(requests, None))
    so_far = _SoFar.of(plan)
    images = sent = 0
    for request in requests:
        _check(request, "batch")
        images += len(request.batch.images)
        for image in request.batch.images if not plan.estimate_only else ():
            item = _item(plan, image)
            so_far.add(item)
            yield so_far.said(item=item)
            sent += 1
            if sent % OFTEN == 1:
                yield so_far.said(progress=so_far.progress())
    if not images and not plan.checkpoint:
        raise invalid("batch", "is missing; must be one at least")
    yield so_far.said(done=so_far.done(images))


def _plan(request: pb.EvaluateRobustnessRequest | None) -> pb.RobustnessPlan:
    """The plan with every default."""
    _check(request or pb.EvaluateRobustnessRequest(), "plan")
    assert request
    plan = with_defaults(request.plan)
    check_plan(plan)
    check_network(plan.network)
    plan.network = f"{NAME}@1"
    return plan


def _check(request: pb.EvaluateRobustnessRequest, part: str) -> None:
    check(request)
    if request.WhichOneof("part") != part:
        raise invalid(part, "is missing; the plan goes first, and then the images")


def _item(plan: pb.RobustnessPlan, image: pb.LabeledImage) -> pb.RobustnessItem:
    if not has_pixels(image.image):
        return pb.RobustnessItem(id=image.id, error=EMPTY)
    try:
        right = class_of("true_class", image.true_class) == SCORES[0]
    except Failure as failure:
        return pb.RobustnessItem(id=image.id, error=failure.status())
    found = pb.ImageRobustness(clean_correct=right)
    if right:
        found.budgets.extend(_smallest(plan, n, image.id) for n in range(len(plan.attacks)))
    return pb.RobustnessItem(id=image.id, robustness=found)


def _smallest(plan: pb.RobustnessPlan, number: int, name: str) -> pb.SmallestBudget:
    """Later attacks are stronger; where the last one fails, its gradient may be zero."""
    budgets = budgets_of(plan, norm_of(plan.attacks[number]))
    drawn = int(digest(f"{plan.seed} {name}".encode())[:8], 16) / 2**32
    needed = drawn * 1.2 * budgets[-1] * (1 - number / 32)
    epsilon = next((each for each in budgets if each >= needed), None)
    if epsilon is None:
        flag = pb.ATTACK_FLAG_ZERO_GRADIENT
        return pb.SmallestBudget(flags=[flag] if drawn > 0.94 else [])
    return pb.SmallestBudget(epsilon=epsilon, distance=pb.Distance(l2=needed, linf=needed))


@dataclass(slots=True)
class _SoFar:
    """What is known of the images that are done; all of it goes into the checkpoint."""

    plan: pb.RobustnessPlan
    done_: int = 0
    failed: int = 0
    # Of each image that counts, the smallest budget of each attack; none where it was wrong.
    fared: list[list[float | None]] = field(default_factory=list[Any])

    @classmethod
    def of(cls, plan: pb.RobustnessPlan) -> "_SoFar":
        """Nothing, or what the plan's checkpoint has."""
        if not plan.checkpoint:
            return cls(plan)
        try:
            document = json.loads(plan.checkpoint)
            if document["plan"] == _digest(plan):
                return cls(plan, document["done"], document["failed"], document["fared"])
        except (ValueError, TypeError, LookupError):
            pass
        raise invalid("plan.checkpoint", "is of another plan or network; begin without it")

    def add(self, item: pb.RobustnessItem) -> None:
        self.done_ += 1
        if item.HasField("error"):
            self.failed += 1
            return
        budgets = item.robustness.budgets
        self.fared.append([b.epsilon if b.HasField("epsilon") else None for b in budgets])

    def said(self, **event: Any) -> pb.EvaluateRobustnessResponse:
        """A message with the checkpoint."""
        own = {"done": self.done_, "failed": self.failed, "fared": self.fared}
        checkpoint = json.dumps({"plan": _digest(self.plan), **own}).encode()
        return pb.EvaluateRobustnessResponse(checkpoint=checkpoint, **event)

    def progress(self) -> pb.RobustnessProgress:
        return pb.RobustnessProgress(
            images_done=self.done_,
            images_failed=self.failed,
            points=self.points(),
            cost=self.cost(self.done_),
        )

    def done(self, images: int) -> pb.RobustnessDone:
        end = pb.RobustnessDone(estimated_cost=self.cost(images))
        if not self.plan.estimate_only:
            end.images_done, end.images_failed = self.done_, self.failed
            end.points.extend(self.points())
            end.receipt.CopyFrom(receipt_for(self.plan, "checkpoint"))
            end.receipt.cost.CopyFrom(self.cost(self.done_))
        return end

    def cost(self, images: int) -> receipt_pb2.Cost:
        one = robustness_cost(self.plan, len(LABELS))
        return receipt_pb2.Cost(
            forward_passes=one.forward_passes * images, backward_passes=one.backward_passes * images
        )

    def points(self) -> Iterator[pb.RobustnessPoint]:
        """Attack by attack, then all of a norm together; none before an image counts."""
        attacks = self.plan.attacks if self.fared else ()
        for number, attack in enumerate(attacks):
            yield from self._curve(norm_of(attack), [number], attack_index=number)
        for norm in sorted({norm_of(attack) for attack in attacks}):
            own = [n for n, attack in enumerate(attacks) if norm_of(attack) == norm]
            yield from self._curve(norm, own)

    def _curve(
        self, norm: methods.Norm.ValueType, own: Sequence[int], **index: int
    ) -> Iterator[pb.RobustnessPoint]:
        for epsilon in (0.0, *budgets_of(self.plan, norm)):
            right = sum(
                bool(fared) and all((fared[n] or math.inf) > epsilon for n in own)
                for fared in self.fared
            )
            yield self._point(right, norm=norm, epsilon=epsilon, **index)

    def _point(self, right: int, **place: Any) -> pb.RobustnessPoint:
        images = len(self.fared)
        share = right / images
        low, high = _interval(right, images, self.plan.confidence_level)
        return pb.RobustnessPoint(
            images=images,
            correct=right,
            accuracy=share,
            accuracy_low=low,
            accuracy_high=high,
            certainty=_certainty(share),
            certainty_low=_certainty(low),
            certainty_high=_certainty(high),
            **place,
        )


def _interval(right: int, images: int, level: float) -> tuple[float, float]:
    """Wilson's."""
    z, share = NormalDist().inv_cdf((1 + level) / 2), right / images
    middle = share + z * z / (2 * images)
    wide = z * math.sqrt(share * (1 - share) / images + (z / (2 * images)) ** 2)
    scale = 1 + z * z / images
    return max(0.0, (middle - wide) / scale), min(1.0, (middle + wide) / scale)


def _certainty(share: float) -> float:
    return WRONG + (RIGHT - WRONG) * share


def _digest(plan: pb.RobustnessPlan) -> str:
    copy = pb.RobustnessPlan()
    copy.CopyFrom(plan)
    for name in IN_PASSING:
        copy.ClearField(name)
    return digest(copy.SerializeToString(deterministic=True))
