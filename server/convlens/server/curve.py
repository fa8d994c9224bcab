"""A robustness curve as it grows: whole numbers that are counted, and what they say."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist

from google.protobuf.message import DecodeError

from convlens.contract.attacks import norm_of
from convlens.contract.robustness import FIELDS, budgets_of
from convlens.contract.validation import Violation, invalid
from convlens.internal.v1.robustness_pb2 import (
    RobustnessCheckpoint,
    RobustnessResponse,
    Tally,
)
from convlens.server.intervals import mean, wilson
from convlens.v1 import adversarial_pb2 as pb
from convlens.v1.attack_methods_pb2 import Norm
from convlens.v1.receipt_pb2 import Cost

# Probabilities are summed in this unit, so that the order does not matter.
UNIT = 2**-32
# No evaluation has so many images or passes.
MOST = 2**53


@dataclass(frozen=True)
class Series:
    """Attacks that count together, by their positions in the plan, at the budgets of a norm."""

    attack_index: int | None
    attacks: Sequence[int]
    norm: Norm.ValueType
    epsilons: Sequence[float]


class Curve:
    """What was found on the images of an evaluation so far.

    `plan` has every default filled in and the network's version. Raises Failure INVALID_REQUEST
    where the plan's checkpoint is of another plan or network.
    """

    def __init__(self, plan: pb.RobustnessPlan, network_digest: str) -> None:
        self._series = list(_series(plan))
        # From below: 1 less a little may be 1.
        self._normal = -NormalDist().inv_cdf((1 - plan.confidence_level) / 2)
        tallies = 1 + sum(len(series.epsilons) for series in self._series)
        self._state = RobustnessCheckpoint(
            plan_digest=_digest(plan, network_digest), tallies=[Tally()] * tallies
        )
        if plan.checkpoint:
            self._go_on(plan.checkpoint)

    def _go_on(self, checkpoint: bytes) -> None:
        try:
            state = RobustnessCheckpoint.FromString(checkpoint)
        except DecodeError:
            raise _unusable("is none that a server sent; send one as it came") from None
        if state.plan_digest != self._state.plan_digest:
            words = (
                "is of another plan or network; send the plan that it came with, or leave it out"
            )
            raise _unusable(words)
        if not self._is_sound(state):
            raise _unusable("contradicts itself; send one as it came")
        self._state = state

    def _is_sound(self, state: RobustnessCheckpoint) -> bool:
        """Whether counting may have led to this."""
        images = state.images_done - state.images_failed
        counts = (state.images_done, state.cost.forward_passes, state.cost.backward_passes)
        if images < 0 or max(counts) > MOST or len(state.tallies) != len(self._state.tallies):
            return False
        for tally in state.tallies:
            if max(tally.correct, tally.certainty * UNIT, tally.squared * UNIT) > images:
                return False
        tallies = iter(state.tallies)
        clean = next(tallies).correct
        for series in self._series:
            correct = [clean, *(next(tallies).correct for _ in series.epsilons)]
            # With a larger budget no fewer are fooled.
            if correct != sorted(correct, reverse=True):
                return False
        return True

    def fail(self) -> None:
        """Counts an image without an answer."""
        self._state.images_done += 1
        self._state.images_failed += 1

    def add(self, found: RobustnessResponse) -> None:
        """Counts an image."""
        self._state.images_done += 1
        self._state.cost.forward_passes += found.cost.forward_passes
        self._state.cost.backward_passes += found.cost.backward_passes
        was_right = found.robustness.clean_correct
        tallies = iter(self._state.tallies)
        _count(next(tallies), was_right, found.certainty)
        for series in self._series:
            for index, epsilon in enumerate(series.epsilons):
                stays_right = was_right and not any(
                    _is_fooled(found.robustness.budgets[attack], epsilon)
                    for attack in series.attacks
                )
                least = min(
                    (found.attacked[attack].certainties[index] for attack in series.attacks)
                    if was_right
                    else [found.certainty]
                )
                _count(next(tallies), stays_right, least)

    @property
    def cost(self) -> Cost:
        """What was computed."""
        return self._state.cost

    def checkpoint(self) -> bytes:
        """What the caller sends to go on."""
        return self._state.SerializeToString()

    def progress(self) -> pb.RobustnessProgress:
        """The curve so far."""
        return pb.RobustnessProgress(
            images_done=self._state.images_done,
            images_failed=self._state.images_failed,
            points=self.points(),
            cost=self.cost,
        )

    def done(self) -> pb.RobustnessDone:
        """The whole curve."""
        return pb.RobustnessDone(
            images_done=self._state.images_done,
            images_failed=self._state.images_failed,
            points=self.points(),
        )

    def points(self) -> list[pb.RobustnessPoint]:
        """Attack by attack, then all together; none before an image counts."""
        images = self._state.images_done - self._state.images_failed
        if not images:
            return []
        tallies = iter(self._state.tallies)
        clean = next(tallies)
        return [
            self._point(series, epsilon, tally, images)
            for series in self._series
            for epsilon, tally in (
                (0.0, clean),
                *((epsilon, next(tallies)) for epsilon in series.epsilons),
            )
        ]

    def _point(
        self, series: Series, epsilon: float, tally: Tally, images: int
    ) -> pb.RobustnessPoint:
        low, high = wilson(tally.correct, images, self._normal)
        certainty, least, most = mean(
            tally.certainty * UNIT, tally.squared * UNIT, images, self._normal
        )
        return pb.RobustnessPoint(
            attack_index=series.attack_index,
            norm=series.norm,
            epsilon=epsilon,
            images=images,
            correct=tally.correct,
            accuracy=tally.correct / images,
            accuracy_low=low,
            accuracy_high=high,
            certainty=certainty,
            certainty_low=least,
            certainty_high=most,
        )


def _series(plan: pb.RobustnessPlan) -> Iterator[Series]:
    norms = [norm_of(method) for method in plan.attacks]
    for index, norm in enumerate(norms):
        yield Series(index, [index], norm, budgets_of(plan, norm))
    for norm in FIELDS:
        if attacks := [index for index, its in enumerate(norms) if its == norm]:
            yield Series(None, attacks, norm, budgets_of(plan, norm))


def _digest(plan: pb.RobustnessPlan, network_digest: str) -> bytes:
    """Names what is measured: the plan without how far it has come and how it ends."""
    named = pb.RobustnessPlan()
    named.CopyFrom(plan)
    for field in ("checkpoint", "allow_partial", "estimate_only", "confidence_level"):
        named.ClearField(field)
    content = named.SerializeToString(deterministic=True) + network_digest.encode()
    return hashlib.blake2b(content, digest_size=32).digest()


def _unusable(words: str) -> Exception:
    return invalid([Violation(field="plan.checkpoint", description=words)])


def _is_fooled(smallest: pb.SmallestBudget, epsilon: float) -> bool:
    return smallest.HasField("epsilon") and smallest.epsilon <= epsilon


def _count(tally: Tally, is_right: bool, certainty: float) -> None:
    tally.correct += is_right
    tally.certainty += round(certainty / UNIT)
    tally.squared += round(certainty**2 / UNIT)
