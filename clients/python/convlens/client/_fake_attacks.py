"""What a FakeServer says to Attack and AttackStream."""

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from convlens.client._drawing import png_of
from convlens.client._fake_basics import (
    EMPTY,
    LABELS,
    SCORES,
    SIDE,
    check_network,
    class_of,
    has_pixels,
    invalid,
)
from convlens.client._tensors import tensor_of
from convlens.contract import digest, with_defaults
from convlens.contract.attack_cost import attack_cost
from convlens.contract.rules import title_of
from convlens.v1 import adversarial_pb2 as pb
from convlens.v1 import image_pb2, receipt_pb2
from convlens.v1.target_pb2 import ClassScore

# What the network says of every picture after an attack: a dog.
FOOLED = (
    ClassScore(class_index=1, label="dog", probability=0.8, logit=1.1),
    ClassScore(class_index=0, label="cat", probability=0.2, logit=-0.3),
)
# By how much every value changes, in steps of 1/255.
CHANGE = 8


def attack(request: pb.AttackRequest) -> pb.AttackResponse:
    """A dog for each cat, and an error for an image without pixels.

    An image whose true class is another one is misclassified already; one of the target's class has
    an error.
    """
    check_network(request.network)
    if request.top_k > len(LABELS):
        words = f"is {request.top_k}; must be at most 2, the classes of this network"
        raise invalid("top_k", words)
    asked = with_defaults(request)
    _check_classes(asked)
    cost = attack_cost(asked, len(LABELS))
    if asked.estimate_only:
        return pb.AttackResponse(estimated_cost=cost)
    results = [_result(asked, number, image) for number, image in enumerate(asked.images)]
    return pb.AttackResponse(results=results, estimated_cost=cost)


def attacked_in_parts(
    request: pb.AttackStreamRequest, response: pb.AttackResponse
) -> Iterator[pb.AttackStreamResponse]:
    """What a stream tells where a single call would have got `response`."""
    cost, event, images = response.estimated_cost, pb.AttackStreamResponse, len(response.results)
    fooled = 0
    for done, result in enumerate(response.results):
        spent = receipt_pb2.Cost(
            forward_passes=cost.forward_passes * done // images,
            backward_passes=cost.backward_passes * done // images,
        )
        progress = pb.AttackProgress(
            images_done=done, images_fooled=fooled, images=images, cost=spent, estimated_cost=cost
        )
        yield event(progress=progress)
        if request.partial_items and result.HasField("verdict"):
            yield event(item=pb.AttackItem(image_index=done, result=_so_far(result)))
        yield event(item=pb.AttackItem(image_index=done, is_final=True, result=result))
        fooled += result.verdict.status == pb.ATTACK_STATUS_SUCCEEDED
    yield event(done=pb.AttackDone(receipt=response.receipt, estimated_cost=cost))


def _check_classes(asked: pb.AttackRequest) -> None:
    if len(asked.true_classes) not in (0, len(asked.images)):
        raise invalid("true_classes", f"are {len(asked.true_classes)}; must be one for each image")
    for number, label in enumerate(asked.true_classes):
        class_of(f"true_classes[{number}]", label)
    if asked.goal.HasField("target"):
        class_of("goal.target", asked.goal.target)


def _result(asked: pb.AttackRequest, number: int, image: image_pb2.Image) -> pb.AttackResult:
    if not has_pixels(image):
        return pb.AttackResult(error=EMPTY)
    own = class_of("true_classes", asked.true_classes[number]) if asked.true_classes else SCORES[0]
    if asked.goal.HasField("target") and class_of("goal.target", asked.goal.target) == own:
        words = f"is {own.label!r}, the class of image {number} already; name another class"
        return pb.AttackResult(error=invalid("goal", words).status())
    return pb.AttackResult(verdict=_verdict(asked, own, image))


def _verdict(asked: pb.AttackRequest, own: ClassScore, image: image_pb2.Image) -> pb.AttackVerdict:
    name = asked.method.WhichOneof("method") or ""
    wrong = own != SCORES[0]
    old = _pixels(image)
    new = old + (0 if wrong else CHANGE)
    found = pb.AttackVerdict(
        status=pb.ATTACK_STATUS_ALREADY_MISCLASSIFIED if wrong else pb.ATTACK_STATUS_SUCCEEDED,
        rounded_status=pb.ROUNDED_STATUS_SUCCEEDED,
        original_class_index=own.class_index,
        target_class_index=FOOLED[0].class_index if asked.HasField("goal") else None,
        before=SCORES[: asked.top_k],
        after=(SCORES if wrong else FOOLED)[: asked.top_k],
        after_rounding=(SCORES if wrong else FOOLED)[: asked.top_k],
        png=png_of(new),
        original_png=png_of(old),
        geometry=image_pb2.GEOMETRY_AS_IS,
        distance=_distance(old, new),
        rounded_distance=_distance(old, new),
        steps=0 if wrong else 3,
        cost=receipt_pb2.Cost(forward_passes=4, backward_passes=3),
        succeeded_by="" if wrong else title_of(getattr(asked.method, name)),
    )
    if asked.return_pixels:
        found.pixels.CopyFrom(tensor_of((new / np.float32(255)).astype("<f4")))
    return found


def _pixels(image: image_pb2.Image) -> NDArray[np.uint8]:
    """A picture that depends on the image's bytes alone."""
    seed = int(digest(image.SerializeToString())[:8], 16)
    random = np.random.default_rng(seed)
    return random.integers(0, 255 - CHANGE, (SIDE, SIDE, 3), np.uint8)


def _distance(old: NDArray[np.uint8], new: NDArray[np.uint8]) -> pb.Distance:
    change = np.abs(new.astype(float) - old) / 255
    return pb.Distance(
        l0=int((change > 0).sum()),
        l1=float(change.sum()),
        l2=math.sqrt(float((change**2).sum())),
        linf=float(change.max()),
        distortion=math.sqrt(float((change**2).mean())),
    )


def _so_far(result: pb.AttackResult) -> pb.AttackResult:
    """The result before it was judged."""
    copy = pb.AttackResult()
    copy.CopyFrom(result)
    copy.verdict.status = pb.ATTACK_STATUS_IN_PROGRESS
    copy.verdict.rounded_status = pb.ROUNDED_STATUS_NOT_JUDGED
    copy.verdict.succeeded_by = ""
    del copy.verdict.after[:], copy.verdict.after_rounding[:]
    return copy
