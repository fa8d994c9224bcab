"""What became of an attack on one picture, by the network's own word, and its message."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from convlens.v1 import adversarial_pb2 as pb
from convlens.v1 import image_pb2
from convlens.v1.target_pb2 import ClassScore
from convlens.workers.adversarial.rounding import SLACK
from convlens.workers.adversarial.watching import Watched
from convlens.workers.attacks import Aim, Attempt
from convlens.workers.images.encoding import in_8_bits, numbers_of, pixels_of, png
from convlens.workers.targets import class_scores

# Probabilities add up to 1 but for rounding.
_ROUNDING = 1e-4


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """An attempt, and the scores [classes] before, after, and of the rounded picture, uint8.

    There is no rounded picture where none but the original is within the budget, and of what
    `is_vector`. `after` is None for what was not judged yet, or no more.
    """

    x: Tensor
    aim: Aim
    attempt: Attempt
    before: Tensor
    watched: Watched
    rounded: Tensor | None = None
    after: Tensor | None = None
    after_rounding: Tensor | None = None
    is_late: bool = False
    is_vector: bool = False

    @property
    def is_reached_before(self) -> bool:
        """Whether the network is wrong, or says the target, without any attack."""
        return reached(self.aim, self.before)

    @property
    def status(self) -> pb.AttackStatus.ValueType:
        """How it ended."""
        if self.is_reached_before:
            return pb.ATTACK_STATUS_ALREADY_MISCLASSIFIED
        if self.is_late:
            return pb.ATTACK_STATUS_DEADLINE
        if self.after is None:
            return pb.ATTACK_STATUS_IN_PROGRESS
        if reached(self.aim, self.after):
            return pb.ATTACK_STATUS_SUCCEEDED
        if self.attempt.is_improving:
            return pb.ATTACK_STATUS_STEPS_EXHAUSTED
        return pb.ATTACK_STATUS_FAILED

    @property
    def rounded_status(self) -> pb.RoundedStatus.ValueType:
        """How it ends for the picture in 8 bits."""
        if self.is_vector:
            return pb.ROUNDED_STATUS_NOT_APPLICABLE
        if self.after is None:
            return pb.ROUNDED_STATUS_NOT_JUDGED
        if self.rounded is None or self.after_rounding is None:
            return pb.ROUNDED_STATUS_NOT_REPRESENTABLE
        if reached(self.aim, self.after_rounding):
            return pb.ROUNDED_STATUS_SUCCEEDED
        return pb.ROUNDED_STATUS_FAILED


def reached(aim: Aim, scores: Tensor) -> bool:
    """Whether an answer with scores [classes] is what was aimed at."""
    return bool(aim.reached(scores[None])[0])


def are_probabilities(scores: Tensor) -> bool:
    """Whether scores [classes] look like a softmax's."""
    return bool((scores >= 0).all()) and abs(float(scores.double().sum()) - 1) < _ROUNDING


def verdict_of(
    judged: Judged,
    labels: Sequence[str],
    *,
    top_k: int,
    title: str,
    geometry: image_pb2.Geometry.ValueType,
    return_pixels: bool,
) -> pb.AttackVerdict:
    """The message."""
    made = pb.AttackVerdict(
        status=judged.status,
        rounded_status=judged.rounded_status,
        original_class_index=judged.aim.original,
        target_class_index=judged.aim.target,
        before=best(judged.before, labels, top_k),
        geometry=geometry,
        distance=distance(judged.attempt.pixels, judged.x),
        steps=judged.attempt.steps,
        cost=judged.watched.cost,
        flags=flags_of(judged),
    )
    if judged.after is not None:
        made.after.extend(best(judged.after, labels, top_k))
    if judged.after_rounding is not None:
        made.after_rounding.extend(best(judged.after_rounding, labels, top_k))
    if made.status == pb.ATTACK_STATUS_SUCCEEDED:
        made.succeeded_by = judged.attempt.by or title
    if judged.is_vector:
        made.pixels.CopyFrom(numbers_of(judged.attempt.pixels))
        return made
    original = in_8_bits(judged.x)
    shown = judged.rounded if judged.rounded is not None else original
    made.png, made.original_png = png(shown), png(original)
    made.rounded_distance.CopyFrom(rounded_distance(judged))
    if return_pixels:
        made.pixels.CopyFrom(pixels_of(judged.attempt.pixels))
    return made


def flags_of(judged: Judged) -> list[pb.AttackFlag.ValueType]:
    """Reasons not to take failure for robustness."""
    flags = sorted(pb.AttackFlag.ValueType(each) for each in judged.attempt.flags)
    if judged.watched.is_flat:
        flags.append(pb.ATTACK_FLAG_ZERO_GRADIENT)
    # Two scores of a linear classifier may add up to 1 by chance, and lose nothing by it.
    if are_probabilities(judged.before) and not judged.is_vector:
        flags.append(pb.ATTACK_FLAG_PROBABILITY_OUTPUTS)
    return flags


def best(scores: Tensor, labels: Sequence[str], top_k: int) -> list[ClassScore]:
    """The best classes for scores [classes], the best first."""
    order = scores.argsort(descending=True, stable=True)[:top_k]
    return class_scores(map(int, order), scores, labels)


def rounded_distance(judged: Judged) -> pb.Distance:
    """How far the rounded picture is from the original."""
    shown = judged.rounded if judged.rounded is not None else in_8_bits(judged.x)
    return distance(shown.double() / 255, _exact(judged.x))


def _exact(x: Tensor) -> Tensor:
    """x in double precision, its 8-bit values without what float32 made of them."""
    values, steps = x.double() * 255, in_8_bits(x).double()
    return torch.where((values - steps).abs() < SLACK, steps, values) / 255


def distance(pixels: Tensor, x: Tensor) -> pb.Distance:
    """How far pixels are from x."""
    change = pixels.double().cpu() - x.double().cpu()
    return pb.Distance(
        l0=int(change.count_nonzero()),
        l1=float(change.abs().sum()),
        l2=float(change.square().sum().sqrt()),
        linf=float(change.abs().max()),
        distortion=float(change.square().mean().sqrt()),
    )
