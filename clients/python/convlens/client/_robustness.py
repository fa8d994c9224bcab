"""How robust a network is, as the SDK returns it: points of the curve, and how each image fared."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeAlias

from convlens.client._attacks import Distance
from convlens.client._errors import ConvLensError, Internal, from_status
from convlens.client._images import ImageInput
from convlens.client._results import Cost, Receipt, cost_of, plain, receipt_of
from convlens.v1 import adversarial_pb2 as pb
from convlens.v1.target_pb2 import Target


@dataclass(frozen=True, slots=True)
class LabeledImage:
    """An image with its true class, by index or label.

    `id` is any name that no other image has; the image's random numbers depend on it.
    """

    id: str
    image: ImageInput = field(repr=False)
    true_class: int | str | Target


@dataclass(frozen=True, slots=True)
class RobustnessPoint:
    """Accuracy and certainty under one budget, with the ends of their confidence intervals.

    `attack_index` is the attack's place in the plan; None for all attacks of this norm together,
    the worst for each image. `epsilon` is the budget under `norm`, "linf" or "l2"; 0 for the clean
    images. `certainty` is the mean probability of the true class.
    """

    attack_index: int | None
    norm: str
    epsilon: float
    #: Images that count, and those on which the network stayed right.
    images: int
    correct: int
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    certainty: float
    certainty_low: float
    certainty_high: float


@dataclass(frozen=True, slots=True)
class SmallestBudget:
    """The smallest budget of the plan under which one attack succeeded on an image.

    `epsilon` is None where it succeeded under none, and `flags` are reasons not to take that for
    robustness, as in AttackVerdict. `distance` is how near the nearest success was.
    """

    epsilon: float | None
    distance: Distance | None
    flags: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ImageRobustness:
    """How one image fared: `budgets` has an entry for each attack, in their order.

    There are none where the network was wrong before any attack.
    """

    clean_correct: bool
    budgets: tuple[SmallestBudget, ...]


@dataclass(frozen=True, slots=True)
class RobustnessProgress:
    """The curve so far; images that failed have no answer and do not count in it."""

    images_done: int
    images_failed: int
    points: tuple[RobustnessPoint, ...]
    cost: Cost
    #: Given to another call with the same plan, goes on after the images whose items have come.
    checkpoint: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class RobustnessItem:
    """What became of the image of that `id`; without an answer, `error` says why."""

    id: str
    robustness: ImageRobustness | None
    error: ConvLensError | None
    #: Given to another call with the same plan, goes on after this image.
    checkpoint: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class RobustnessDone:
    """The whole curve: attack by attack, then all together, from the smallest budget on.

    `images_done` counts those before the checkpoint too, and those that failed. It `is_partial`
    where the deadline came before the last image was done.
    """

    points: tuple[RobustnessPoint, ...]
    images_done: int
    images_failed: int
    is_partial: bool
    receipt: Receipt = field(repr=False)
    #: What the images were expected to ask of the network at most.
    estimated_cost: Cost
    checkpoint: bytes = field(repr=False)


RobustnessEvent: TypeAlias = RobustnessProgress | RobustnessItem | RobustnessDone


def robustness_event(message: pb.EvaluateRobustnessResponse, request_id: str) -> RobustnessEvent:
    """What one message of an evaluation tells."""
    checkpoint = message.checkpoint
    match message.WhichOneof("event"):
        case "progress":
            return plain(
                RobustnessProgress,
                message.progress,
                points=_points(message.progress.points),
                cost=cost_of(message.progress.cost),
                checkpoint=checkpoint,
            )
        case "item":
            return _item(message.item, checkpoint, request_id)
        case "done":
            return plain(
                RobustnessDone,
                message.done,
                points=_points(message.done.points),
                receipt=receipt_of(message.done.receipt),
                estimated_cost=cost_of(message.done.estimated_cost),
                checkpoint=checkpoint,
            )
        case _:
            raise Internal("The server sent a message of a stream that tells nothing.")


def _item(message: pb.RobustnessItem, checkpoint: bytes, request_id: str) -> RobustnessItem:
    answered = message.WhichOneof("outcome") == "robustness"
    return RobustnessItem(
        message.id,
        _robustness(message.robustness) if answered else None,
        None if answered else from_status(message.error, request_id=request_id),
        checkpoint,
    )


def _robustness(message: pb.ImageRobustness) -> ImageRobustness:
    return plain(ImageRobustness, message, budgets=tuple(map(_budget, message.budgets)))


def _budget(message: pb.SmallestBudget) -> SmallestBudget:
    known = message.HasField("distance")
    distance = plain(Distance, message.distance) if known else None
    return plain(SmallestBudget, message, distance=distance)


def _points(messages: Iterable[pb.RobustnessPoint]) -> tuple[RobustnessPoint, ...]:
    return tuple(plain(RobustnessPoint, message) for message in messages)
