"""Asks again what a receipt was written of."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from convlens.client import Client, Receipt, SynthesisDone, SynthesisProgress
from convlens.client._operations.asking import MAP_TYPES
from convlens.client.cli._attack_calls import AttackCall, attacked
from convlens.client.cli._calls import Call, Picture, Show, explained
from convlens.client.cli._comparison import (
    Comparison,
    compared,
    compared_pictures,
    compared_verdicts,
)
from convlens.client.cli._receipts import Recorded
from convlens.contract.rules import title_of
from convlens.v1 import adversarial_pb2, explanation_pb2, synthesis_pb2

TYPE_NAMES: Mapping[int, Any] = {number: name for name, number in MAP_TYPES.items()}


def asked_again(
    client: Client,
    call: Recorded,
    pictures: Sequence[Picture],
    folder: Path,
    timeout: float | None,
    show: Show,
) -> tuple[list[Comparison], Receipt | None]:
    """A call once more: how its answers compare, and its receipt where something was sent.

    `folder` is that of the receipt.
    """
    network = f"{call.receipt.network}@{call.receipt.network_version}"
    given = {"network": network, "timeout": timeout}
    request = call.request
    if isinstance(request, synthesis_pb2.SynthesizeRequest):
        done = _synthesized(client, pictures, request, given, show)
        title = title_of(getattr(request.method, str(request.method.WhichOneof("method"))))
        return list(compared_pictures(title, call.made, done.pictures)), done.receipt
    if isinstance(request, adversarial_pb2.AttackRequest):
        again = _attacked(client, pictures, request, given, show)
        comparisons = list(compared_verdicts(call, again))
    else:
        again = _explained(client, pictures, request, given, show)
        comparisons = list(compared(call, again, folder))
    return comparisons, again.done.receipt if again.done else None


def _explained(
    client: Client,
    pictures: Sequence[Picture],
    request: explanation_pb2.ExplainRequest,
    given: Mapping[str, Any],
    show: Show,
) -> Call:
    """What was asked then."""
    options = {
        **given,
        "targets": list(request.targets),
        "dtype": TYPE_NAMES.get(request.dtype),
        "rendering": request.rendering if request.HasField("rendering") else None,
        "localization": request.localization if request.HasField("localization") else None,
        "measures": list(request.measures),
        "seed": request.seed if request.HasField("seed") else None,
        "stable_share": request.stable_share if request.HasField("stable_share") else None,
        "allow_partial": request.allow_partial,
    }
    known = _with_truths(pictures, request.true_regions)
    return explained(client, known, list(request.methods), options, show)


def _attacked(
    client: Client,
    pictures: Sequence[Picture],
    request: adversarial_pb2.AttackRequest,
    given: Mapping[str, Any],
    show: Show,
) -> AttackCall:
    """What was asked then, but for how many classes are named, which changes nothing."""
    goal = request.goal.WhichOneof("goal")
    options = {
        **given,
        "target": getattr(request.goal, goal) if goal in ("target", "least_likely") else None,
        "stop_at_success": request.stop_at_success,
        "until_rounded_succeeds": request.until_rounded_succeeds,
        "through_resize": request.through_resize,
        "return_pixels": request.return_pixels,
        "seed": request.seed,
        "allow_partial": request.allow_partial,
    }
    return attacked(
        client, _with_truths(pictures, request.true_classes), request.method, options, show
    )


def _with_truths(pictures: Sequence[Picture], truths: Sequence[Any]) -> list[Picture]:
    pairs = zip(pictures, list(truths) or [None] * len(pictures), strict=True)
    return [Picture(picture.path, truth, picture.data) for picture, truth in pairs]


def _synthesized(
    client: Client,
    pictures: Sequence[Picture],
    request: synthesis_pb2.SynthesizeRequest,
    given: Mapping[str, Any],
    show: Show,
) -> SynthesisDone:
    """What was asked then, from the beginning: a checkpoint changes nothing."""
    options: dict[str, Any] = {
        **given,
        "image": pictures[0].data if pictures else None,
        "canvas": (request.canvas.height, request.canvas.width),
        "return_pixels": request.return_pixels,
        "seed": request.seed,
        "preview_every": 0,
    }
    with closing(client.synthesize(request.method, **options)) as events:
        for event in events:
            if isinstance(event, SynthesisDone):
                return event
            if isinstance(event, SynthesisProgress):
                show(event)
    raise AssertionError("a stream without an end is an error of the client")
