"""Whether an answer may be sent, before anything is computed for it."""

from collections.abc import Sequence

from google.protobuf.message import Message

from convlens.contract import ErrorReason, Failure
from convlens.v1 import explanation_pb2 as pb
from convlens.v1 import tensor_pb2
from convlens.v1.quality_pb2 import QualityMeasure
from convlens.workers.explain.plans import Plan

# What an attribution and an answer have beside their numbers.
ATTRIBUTION_BYTES, RESPONSE_BYTES = 512, 4096


def check_size(request: pb.ExplainRequest, plans: Sequence[Plan], targets: int, limit: int) -> None:
    """Raises Failure RESPONSE_TOO_LARGE, with what would fit, where the maps could not be sent."""
    images = len(request.images)
    half = request.dtype == tensor_pb2.DATA_TYPE_FLOAT16
    parameters = request.ByteSize() - sum(image.ByteSize() for image in request.images)
    scores = sum(map(_score_bytes, request.measures))

    def size(count: int, half: bool) -> int:
        times = [1 if each.target_free else targets for each in plans]
        numbers = sum(n * each.numbers for n, each in zip(times, plans, strict=True))
        one = numbers * (2 if half else 4) + sum(times) * (ATTRIBUTION_BYTES + scores)
        return RESPONSE_BYTES + parameters + count * one

    if not limit or size(images, half) <= limit:
        return
    advice: list[str] = []
    if not half and size(images, True) <= limit:
        advice.append("DATA_TYPE_FLOAT16 would fit")
    one = size(1, half) - size(0, half)
    if fewer := max(0, limit - size(0, half)) // max(1, one):
        advice.append(f"{fewer} image{'' if fewer == 1 else 's'} at a time would fit")
    detail = (
        f"the maps of {len(plans)} methods and {targets} targets for {images} images take "
        f"{_said(size(images, half))}, allowed are {_said(limit)}"
    )
    words = "; ".join(advice) or "Ask for fewer methods or targets, or for a reduction of channels"
    raise Failure(ErrorReason.ERROR_REASON_RESPONSE_TOO_LARGE, detail=detail, advice=words)


def _score_bytes(measure: QualityMeasure) -> int:
    """What a score takes, with its curve where it has one; an error takes no more."""
    steps = measure.deletion.steps or measure.insertion.steps
    return ATTRIBUTION_BYTES + 4 * steps


def check_response(response: Message, images: int, limit: int) -> None:
    """Raises Failure RESPONSE_TOO_LARGE where drawings and masks make an answer too large."""
    size = response.ByteSize()
    if limit and size > limit:
        detail = f"with its drawings and masks it takes {_said(size)}, allowed are {_said(limit)}"
        fewer = max(1, images * limit // size)
        advice = f"Send about {fewer} of the {images} images at a time, or smaller pictures"
        raise Failure(ErrorReason.ERROR_REASON_RESPONSE_TOO_LARGE, detail=detail, advice=advice)


def check_work(passes: int, allowed: int, images: int) -> None:
    """Raises Failure WORK_TOO_LARGE where a request may need more passes than are allowed."""
    if passes <= allowed:
        return
    one = -(-passes // images)
    if one <= allowed:
        fewer = allowed // one
        advice = f"{fewer} image{'' if fewer == 1 else 's'} at a time would fit"
    else:
        advice = f"one image takes {one:,}: ask for fewer methods, targets, measures or steps"
    raise too_much_work(passes, allowed, advice)


def too_much_work(passes: int, allowed: int, advice: str) -> Failure:
    """WORK_TOO_LARGE, of a request that may need more passes than are allowed."""
    return Failure(
        ErrorReason.ERROR_REASON_WORK_TOO_LARGE,
        passes=f"{passes:,}",
        allowed=f"{allowed:,}",
        advice=advice,
    )


def _said(count: int) -> str:
    return f"{count / 2**20:.1f} MiB"
