"""What a FakeServer says to Synthesize."""

import json
import math
from collections.abc import Iterator, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from convlens.client._drawing import png_of
from convlens.client._fake_basics import (
    LABELS,
    LAYER,
    NAME,
    SCORES,
    SIDE,
    check_network,
    class_of,
    has_pixels,
    invalid,
    receipt_for,
)
from convlens.client._tensors import tensor_of
from convlens.contract import ErrorReason, Failure, digest, with_defaults
from convlens.contract.fooling import check_generations
from convlens.contract.synthesis_cost import picture_count, steps_of, synthesis_cost
from convlens.contract.synthesis_question import question_alone
from convlens.v1 import receipt_pb2
from convlens.v1 import synthesis_pb2 as pb
from convlens.v1.target_pb2 import ClassScore

# Steps after which a picture has come about two thirds of its way.
PACE = 64
# What has a code beside the network's only layer.
ENDS = ("logits", "log-probabilities")


def synthesize(request: pb.SynthesizeRequest) -> Iterator[pb.SynthesizeResponse]:
    """Noise out of which squares come, the same number of steps after whatever checkpoint.

    A class of fooling images by evolution has no picture before the second generation.
    """
    asked = _filled_in(request)
    cost, count = synthesis_cost(asked, len(LABELS)), picture_count(asked, len(LABELS))
    if asked.estimate_only:
        yield pb.SynthesizeResponse(done=pb.SynthesisDone(estimated_cost=cost))
        return
    steps = steps_of(asked.method)
    begin = _step_of(asked)
    for step in range(begin + 1, steps + 1):
        standing = [_standing(asked, step, n) for n in range(count)]
        if step % asked.progress_every == 0:
            progress = pb.SynthesisProgress(
                step=step, steps=steps, pictures=standing, cost=_share(cost, step - begin, steps)
            )
            yield pb.SynthesizeResponse(progress=progress)
        if asked.preview_every and step % asked.preview_every == 0:
            yield pb.SynthesizeResponse(preview=_preview(asked, step, count))
    for number in range(count):
        picture = _made(asked, max(begin, steps), number)
        item = pb.SynthesisItem(picture_index=number, picture=picture)
        yield pb.SynthesizeResponse(item=item)
    done = pb.SynthesisDone(
        checkpoint=_checkpoint(asked, max(begin, steps)),
        receipt=receipt_for(_without_image(asked), "checkpoint"),
        estimated_cost=cost,
    )
    done.receipt.cost.CopyFrom(_share(cost, max(0, steps - begin), steps))
    yield pb.SynthesizeResponse(done=done)


def _filled_in(request: pb.SynthesizeRequest) -> pb.SynthesizeRequest:
    """The request with every default, of what the network has."""
    check_network(request.network)
    given = pb.SynthesizeRequest()
    given.CopyFrom(request)
    inner = _inner(given)
    if "priors" in inner.DESCRIPTOR.fields_by_name:
        inner.priors.SetInParent()
    asked = with_defaults(given)
    asked.network = f"{NAME}@1"
    for side in ("height", "width"):
        if not asked.canvas.HasField(side):
            setattr(asked.canvas, side, SIDE)
    _check(asked)
    return asked


def _check(asked: pb.SynthesizeRequest) -> None:
    """Refuses what the network does not have."""
    path, inner = f"method.{asked.method.WhichOneof('method')}", _inner(asked)
    layer = getattr(inner, "layer", LAYER)
    known = (LAYER, *ENDS) if asked.method.HasField("inversion") else (LAYER,)
    if layer not in known:
        reason = ErrorReason.ERROR_REASON_LAYER_NOT_FOUND
        nearest = f"the nearest are: {', '.join(known)}"
        raise Failure(reason, network=f"{NAME}@1", layer=layer, nearest=nearest)
    if asked.method.HasField("class_model"):
        class_of(f"{path}.target", inner.target)
    check_generations(asked.method.fooling, "method.fooling")
    for number, target in enumerate(asked.method.fooling.targets):
        class_of(f"{path}.targets[{number}]", target)
    if asked.method.inversion.HasField("image") and not has_pixels(inner.image):
        raise Failure(ErrorReason.ERROR_REASON_IMAGE_EMPTY, formats="PNG")
    if asked.method.inversion.HasField("code") and list(inner.code.shape) != [4]:
        raise invalid(f"{path}.code", f"has the shape {list(inner.code.shape)}; must be [4]")


def _inner(asked: pb.SynthesizeRequest) -> Any:
    return getattr(asked.method, cast(str, asked.method.WhichOneof("method")))


def _step_of(asked: pb.SynthesizeRequest) -> int:
    """The step that the checkpoint is of."""
    if not asked.checkpoint:
        return 0
    try:
        document = json.loads(asked.checkpoint)
        question, step = str(document["question"]), int(document["step"])
    except (ValueError, TypeError, LookupError):
        raise invalid("checkpoint", "is none, or is damaged; send none to begin anew") from None
    if question != _question(asked):
        words = "is that of another question; send none to begin anew"
        raise invalid("checkpoint", words)
    return step


def _checkpoint(asked: pb.SynthesizeRequest, step: int) -> bytes:
    return json.dumps({"question": _question(asked), "step": step}).encode()


def _question(asked: pb.SynthesizeRequest) -> str:
    return digest(question_alone(asked))


def _without_image(asked: pb.SynthesizeRequest) -> pb.SynthesizeRequest:
    copy = pb.SynthesizeRequest()
    copy.CopyFrom(asked)
    if copy.method.inversion.HasField("image"):
        copy.method.inversion.ClearField("image")
    return copy


def _share(cost: receipt_pb2.Cost, step: int, steps: int) -> receipt_pb2.Cost:
    return receipt_pb2.Cost(
        forward_passes=cost.forward_passes * step // max(1, steps),
        backward_passes=cost.backward_passes * step // max(1, steps),
    )


def _come(step: int) -> float:
    """How far a picture has come, from 0 to 1."""
    return 1 - math.exp(-step / PACE)


def _evolves(asked: pb.SynthesizeRequest) -> bool:
    return asked.method.fooling.WhichOneof("encoding") in ("direct", "cppn")


def _standing(asked: pb.SynthesizeRequest, step: int, number: int) -> pb.PictureProgress:
    far = asked.method.HasField("inversion")
    classes = asked.method.HasField("class_model") or asked.method.HasField("fooling")
    come = _come(step)
    return pb.PictureProgress(
        picture_index=number,
        terms=[pb.LossTerm(name="score", value=-10 * come), pb.LossTerm(name="l2", value=come)],
        objective=1 - come if far else 10 * come,
        probability=come if classes else None,
        gradient_norm=None if _evolves(asked) else 1 - come,
    )


def _preview(asked: pb.SynthesizeRequest, step: int, count: int) -> pb.SynthesisPreview:
    late = _evolves(asked) and step < 2
    pngs = [b"" if late else png_of(_rounded(_pixels(asked, step, n))) for n in range(count)]
    return pb.SynthesisPreview(step=step, pngs=pngs, checkpoint=_checkpoint(asked, step))


def _pixels(asked: pb.SynthesizeRequest, step: int, number: int) -> NDArray[np.float32]:
    """A square of a colour of its own, in noise that goes as the square comes."""
    height, width = asked.canvas.height, asked.canvas.width
    random = np.random.default_rng([asked.seed, number])
    noise = random.random((height, width, 3), np.float32)
    picture = np.full((height, width, 3), 0.5, np.float32)
    picture[height // 4 : -height // 4, width // 4 : -width // 4] = random.random(3)
    come = _come(step)
    return (picture * come + noise * (1 - come)).astype(np.float32)


def _rounded(pixels: NDArray[np.float32]) -> NDArray[np.uint8]:
    return np.round(pixels * 255).astype(np.uint8)


def _made(asked: pb.SynthesizeRequest, step: int, number: int) -> pb.SynthesizedPicture:
    pixels, come = _pixels(asked, step, number), _come(step)
    made = pb.SynthesizedPicture(
        png=png_of(_rounded(pixels)),
        pixels=tensor_of(pixels) if asked.return_pixels else None,
        prediction=SCORES[0],
        rounded_prediction=SCORES[0],
        steps=step,
    )
    match asked.method.WhichOneof("method"):
        case "class_model":
            _for_class(made, class_of("target", _inner(asked).target), come)
        case "unit_maximization":
            made.activation = 10 * come
        case "inversion":
            made.code_distance = 1 - come
            if _inner(asked).HasField("image"):
                made.psnr = 20 * come
        case _:
            _for_class(made, _targets(asked)[number], come)
            made.confident = come >= asked.method.fooling.confidence
    return made


def _targets(asked: pb.SynthesizeRequest) -> Sequence[ClassScore]:
    targets = asked.method.fooling.targets
    return [class_of("targets", target) for target in targets] or SCORES


def _for_class(made: pb.SynthesizedPicture, score: ClassScore, come: float) -> None:
    """What the network says of a picture that was made for a class."""
    found = ClassScore(
        class_index=score.class_index, label=score.label, probability=come, logit=10 * come
    )
    for place in (made.target, made.prediction, made.rounded_prediction):
        place.CopyFrom(found)
