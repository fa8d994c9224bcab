"""EvaluateRobustness: any number of labelled images, attacked within several budgets."""

# Kept as written, so that help() shows names and not what they stand for.
from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias, TypedDict, Unpack, cast

from convlens.client import methods as m
from convlens.client._errors import ConvLensError, InvalidRequest
from convlens.client._images import Geometry, ImageInput, to_image
from convlens.client._operations.asking import listed, target_of, wrapped
from convlens.client._operations.attacking import Attack, LabelInput
from convlens.client._operations.base import Survey, message_of, with_options
from convlens.client._operations.per_image import path_of
from convlens.client._robustness import (
    LabeledImage,
    RobustnessDone,
    RobustnessEvent,
    RobustnessItem,
    robustness_event,
)
from convlens.client._transport import Settings
from convlens.contract import rule_of, violations
from convlens.v1 import adversarial_pb2 as pb
from convlens.v1 import image_pb2

RPC = pb.DESCRIPTOR.services_by_name["AdversarialService"].methods_by_name["EvaluateRobustness"]
# Images of a request at most; two such requests are under way.
MOST = rule_of(pb.LabeledImages.DESCRIPTOR.fields_by_name["images"]).max_items
# Bytes of a request beside those of its images, with room to spare.
AROUND = 32

LabeledInput: TypeAlias = LabeledImage | tuple[str, ImageInput, LabelInput]


class RobustnessOptions(TypedDict, total=False):
    """What may be said beside the images and attacks; `evaluate_robustness` says what it means."""

    epsilons: float | Iterable[float]
    epsilons_l2: float | Iterable[float]
    network: str
    require_rounded: bool
    confidence_level: float | None
    seed: int | None
    checkpoint: bytes
    allow_partial: bool


def robustness_plan(
    attacks: Attack | Sequence[Attack],
    *,
    epsilons: float | Iterable[float] = (),
    epsilons_l2: float | Iterable[float] = (),
    network: str = "",
    require_rounded: bool = False,
    confidence_level: float | None = None,
    seed: int | None = None,
    checkpoint: bytes = b"",
    allow_partial: bool = False,
) -> pb.RobustnessPlan:
    """The plan; InvalidRequest where something is none."""
    return message_of(
        pb.RobustnessPlan,
        network=network,
        attacks=[wrapped("attacks", m.AttackMethod, attack) for attack in listed(attacks)],
        epsilons=listed(epsilons),
        epsilons_l2=listed(epsilons_l2),
        require_rounded=require_rounded,
        confidence_level=confidence_level,
        seed=seed,
        checkpoint=checkpoint,
        allow_partial=allow_partial,
    )


@with_options(robustness_plan)
def evaluate_robustness(
    settings: Settings,
    attacks: Attack | Sequence[Attack],
    *,
    geometry: Geometry = "network",
    timeout: float | None = None,
    **options: Unpack[RobustnessOptions],
) -> Survey[LabeledInput, RobustnessEvent]:
    """Measures accuracy against the size of the change, on any number of labelled images.

    `images` gives each image as a LabeledImage, or as (id, image, true_class). They are read as the
    answers are taken, up to 128 ahead, in another thread and in constant memory.

    `attacks` are one or several of `convlens.client.methods`; `epsilons` are the budgets of those
    under the largest change, `epsilons_l2` of those under its Euclidean length, from the smallest
    on. With `require_rounded` an attack succeeds only where the picture in 8 bits does.
    `confidence_level` is that of the intervals, `seed` that of everything random.

    Gives a RobustnessItem for each image, in the order in which they are finished,
    RobustnessProgress with the curve so far about once a second, and at the end RobustnessDone. An
    image that fails has an item with its error, and the others go on. Closing the generator
    cancels the call. `timeout` is for the whole stream, in seconds; left out, there is none; with
    `allow_partial` the curve so far comes then, instead of an error.

    A stream that broke, as where the server stopped (Unavailable), can be gone on from: give the
    `checkpoint` of the last event, everything else as before, and only those images whose items
    have not come. The curve is that of all images together.
    """
    plan = robustness_plan(attacks, **options)
    return _survey(settings, plan, geometry, timeout)


@with_options(robustness_plan)
def estimate_robustness(
    settings: Settings,
    attacks: Attack | Sequence[Attack],
    *,
    geometry: Geometry = "network",
    timeout: float | None = None,
    **options: Unpack[RobustnessOptions],
) -> Survey[LabeledInput, RobustnessEvent]:
    """Says what `evaluate_robustness` would ask of the network at most, and computes nothing.

    The parameters are those of `evaluate_robustness`; the images are sent, to be counted.
    """
    plan = robustness_plan(attacks, **options)
    plan.estimate_only = True
    return _survey(settings, plan, geometry, timeout)


def _survey(
    settings: Settings, plan: pb.RobustnessPlan, geometry: Geometry, timeout: float | None
) -> Survey[LabeledInput, RobustnessEvent]:
    # A wrong geometry is no fault of the images, one by one.
    to_image(b"", geometry)

    def encode(given: LabeledInput) -> tuple[pb.LabeledImage, ConvLensError | None]:
        item, entry = _entry(given)
        try:
            entry.image.CopyFrom(to_image(item.image, geometry, settings.max_message_bytes))
            settings.check_size(entry.ByteSize() + AROUND)
        except ConvLensError as error:
            entry.image.CopyFrom(image_pb2.Image())
            return entry, error
        return entry, None

    def decode(data: bytes, request_id: str) -> RobustnessEvent:
        return robustness_event(pb.EvaluateRobustnessResponse.FromString(data), request_id)

    return Survey(
        path=path_of(RPC),
        plan=pb.EvaluateRobustnessRequest(plan=plan),
        encode=encode,
        pack=lambda entries: pb.EvaluateRobustnessRequest(batch=pb.LabeledImages(images=entries)),
        most=MOST,
        decode=decode,
        item=RobustnessItem,
        end=RobustnessDone,
        none="" if plan.checkpoint else "There are no images; give one at least.",
        # Images that are only counted have no items to wait for.
        in_flight=sys.maxsize if plan.estimate_only else 2 * MOST,
        timeout=timeout,
    )


def _entry(given: object) -> tuple[LabeledImage, pb.LabeledImage]:
    """The image with its entry in a request, as far as it goes without pixels."""
    item = _labeled(given)
    if cast(object, item.true_class) is None:
        raise InvalidRequest(f"The image {item.id!r} has no true class; give it by index or label.")
    true_class = target_of(item.true_class)
    entry = message_of(pb.LabeledImage, id=item.id, image=image_pb2.Image(), true_class=true_class)
    if problems := [each for each in violations(entry) if not each.field.startswith("image")]:
        words = "; ".join(f"{each.field} {each.description}" for each in problems)
        raise InvalidRequest(f"The image {item.id!r} cannot be sent: {words}.")
    return item, entry


def _labeled(given: object) -> LabeledImage:
    if isinstance(given, LabeledImage):
        return given
    if isinstance(given, tuple):
        fields = cast(tuple[Any, ...], given)
        if len(fields) == 3:
            return LabeledImage(*fields)
    raise InvalidRequest(
        f"An image is a {type(cast(object, given)).__name__}; it must be a LabeledImage, or "
        "(id, image, true_class)."
    )
