"""Operations of the AdversarialService."""

# Kept as written, so that help() shows names and not what they stand for.
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, Unpack, overload

from convlens.client._attacks import (
    AttackDone,
    AttackEvent,
    AttackItem,
    AttackVerdict,
    attack_event,
    verdict,
)
from convlens.client._errors import ConvLensError
from convlens.client._images import Geometry, ImageInput
from convlens.client._operations.attacking import Attack, AttackOptions, attack_parameters
from convlens.client._operations.base import OnError, Operation, Watch, message_of, with_options
from convlens.client._operations.per_image import Batch, PerImage, path_of
from convlens.client._results import Cost, cost_of, receipt_of
from convlens.client._transport import Settings
from convlens.v1 import adversarial_pb2 as pb

SERVICE = pb.DESCRIPTOR.services_by_name["AdversarialService"]
METHODS = SERVICE.methods_by_name


@overload
def attack(
    settings: Settings,
    images: ImageInput,
    method: Attack,
    *,
    geometry: Geometry = "network",
    timeout: float | None = None,
    **options: Unpack[AttackOptions],
) -> Operation[AttackVerdict]: ...
@overload
def attack(
    settings: Settings,
    images: Sequence[ImageInput],
    method: Attack,
    *,
    geometry: Geometry = "network",
    on_error: Literal["raise"] = "raise",
    timeout: float | None = None,
    **options: Unpack[AttackOptions],
) -> Operation[list[AttackVerdict]]: ...
@overload
def attack(
    settings: Settings,
    images: Sequence[ImageInput],
    method: Attack,
    *,
    geometry: Geometry = "network",
    on_error: Literal["return"],
    timeout: float | None = None,
    **options: Unpack[AttackOptions],
) -> Operation[list[AttackVerdict | ConvLensError]]: ...
@with_options(attack_parameters)
def attack(
    settings: Settings,
    images: ImageInput | Sequence[ImageInput],
    method: Attack,
    *,
    geometry: Geometry = "network",
    on_error: OnError = "raise",
    timeout: float | None = None,
    **options: Unpack[AttackOptions],
) -> Operation[Any]:
    """Looks for a change of a picture, or of each of a list, that fools the network.

    `method` is one of `convlens.client.methods`: `PGD(epsilon=8 / 255)`, `DeepFool()`. `target` is
    the class to lead to, by index, label or Rank, or LeastLikely(); left out, to any but the
    image's own. `true_classes` are those, one for each image; left out, the network's own
    predictions count as true.

    `stop_at_success` ends an image at its first success, which is the default; False runs all
    steps. `until_rounded_succeeds` goes on until the picture succeeds in 8 bits too, and
    `through_resize` attacks the picture as it was sent, through its own resizing and cropping.
    `return_pixels` brings the adversarial pixels as float32 beside the PNG. `top_k` is how many of
    the best classes come, `seed` that of everything random. With `allow_partial` the verdict at
    `timeout` is the best so far, instead of an error. The other parameters are those of `classify`.

    An attack that fails is no error, and shows nothing but that this attack failed.
    """

    def decode(message: Any, response: Any, _: str) -> AttackVerdict:
        return verdict(message, receipt_of(response.receipt))

    call = PerImage(SERVICE, "Attack", decode).call
    parameters = attack_parameters(method, **options)
    return call(settings, images, geometry, on_error, timeout, **parameters)


@with_options(attack_parameters)
def attack_stream(
    settings: Settings,
    images: ImageInput | Sequence[ImageInput],
    method: Attack,
    *,
    partial_items: bool = False,
    min_interval_ms: int | None = None,
    geometry: Geometry = "network",
    on_error: OnError = "raise",
    timeout: float | None = None,
    **options: Unpack[AttackOptions],
) -> Watch[AttackEvent]:
    """Attacks as `attack` does, and yields what there is as soon as it is there.

    Gives AttackProgress now and then, an AttackItem for each image, in the order in which they are
    finished, and at the end AttackDone with the receipt. With `partial_items` the best so far comes
    too, its status "in_progress"; `min_interval_ms` is the shortest time between two versions of
    one image, and between two messages of progress. Closing the generator cancels the call.
    `on_error="raise"` ends it with the first image that fails; `on_error="return"` yields an item
    with the error. `timeout` is for the whole stream, in seconds; left out, the server's own
    limit holds.
    """
    request, batch = _request(settings, images, method, geometry, on_error, options)
    stream = message_of(
        pb.AttackStreamRequest,
        request=request,
        partial_items=partial_items,
        min_interval_ms=min_interval_ms,
    )

    def decode(data: bytes, request_id: str) -> AttackEvent:
        message = pb.AttackStreamResponse.FromString(data)
        event = attack_event(message, len(request.images), request_id)
        if isinstance(event, AttackItem) and event.error is not None:
            return replace(event, error=batch.error_of(event.image_index, event.error))
        return event

    return Watch(path_of(METHODS["AttackStream"]), stream, decode, AttackDone, timeout)


@with_options(attack_parameters)
def estimate_attack(
    settings: Settings,
    images: ImageInput | Sequence[ImageInput],
    method: Attack,
    *,
    geometry: Geometry = "network",
    timeout: float | None = None,
    **options: Unpack[AttackOptions],
) -> Operation[Cost]:
    """Says what `attack` would ask of the network at most, and computes nothing.

    The parameters are those of `attack`.
    """
    request, _ = _request(settings, images, method, geometry, "raise", options)
    request.estimate_only = True

    def decode(data: bytes, _: str) -> Cost:
        return cost_of(pb.AttackResponse.FromString(data).estimated_cost)

    return Operation(path_of(METHODS["Attack"]), request, decode, timeout)


def _request(
    settings: Settings,
    images: ImageInput | Sequence[ImageInput],
    method: Attack,
    geometry: Geometry,
    on_error: OnError,
    options: AttackOptions,
) -> tuple[pb.AttackRequest, Batch]:
    parameters = attack_parameters(method, **options)
    batch = Batch.of(images, geometry, on_error, settings.max_message_bytes)
    return message_of(pb.AttackRequest, images=batch.images, **parameters), batch
