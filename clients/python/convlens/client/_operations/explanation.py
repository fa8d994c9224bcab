"""Operations of the ExplanationService."""

# Kept as written, so that help() shows names and not what they stand for.
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, Unpack, overload

from convlens.client._errors import ConvLensError
from convlens.client._explanations import (
    ExplainDone,
    ExplainEvent,
    ExplainItem,
    Explanation,
    explain_event,
    explanation,
)
from convlens.client._images import Geometry, ImageInput
from convlens.client._operations.asking import ExplainOptions, Method, parameters_of
from convlens.client._operations.base import OnError, Operation, Watch, message_of, with_options
from convlens.client._operations.per_image import Batch, PerImage, path_of
from convlens.client._results import Cost, cost_of
from convlens.client._transport import Settings
from convlens.v1 import explanation_pb2 as pb

SERVICE = pb.DESCRIPTOR.services_by_name["ExplanationService"]
METHODS = SERVICE.methods_by_name


@overload
def explain(
    settings: Settings,
    images: ImageInput,
    methods: Method | Sequence[Method],
    *,
    geometry: Geometry = "network",
    timeout: float | None = None,
    **options: Unpack[ExplainOptions],
) -> Operation[Explanation]: ...
@overload
def explain(
    settings: Settings,
    images: Sequence[ImageInput],
    methods: Method | Sequence[Method],
    *,
    geometry: Geometry = "network",
    on_error: Literal["raise"] = "raise",
    timeout: float | None = None,
    **options: Unpack[ExplainOptions],
) -> Operation[list[Explanation]]: ...
@overload
def explain(
    settings: Settings,
    images: Sequence[ImageInput],
    methods: Method | Sequence[Method],
    *,
    geometry: Geometry = "network",
    on_error: Literal["return"],
    timeout: float | None = None,
    **options: Unpack[ExplainOptions],
) -> Operation[list[Explanation | ConvLensError]]: ...
@with_options(parameters_of)
def explain(
    settings: Settings,
    images: ImageInput | Sequence[ImageInput],
    methods: Method | Sequence[Method],
    *,
    geometry: Geometry = "network",
    on_error: OnError = "raise",
    timeout: float | None = None,
    **options: Unpack[ExplainOptions],
) -> Operation[Any]:
    """Shows what in a picture, or in each of a list, the network's answers rest on.

    `methods` are of `convlens.client.methods`: `Saliency()`, `[Saliency(), Occlusion(window=16)]`.
    `targets` are the classes to explain, by index, label or Rank; left out, each image's own
    prediction. A method that does not apply has its reason in `error`, and the others have answers.

    `dtype` is the type of the maps, "float32" or "float16". `rendering` has the server draw them:
    "heat_map", "overlay", or a Rendering. `localization` has it look for the object: "grabcut",
    "threshold", or a Localization. `measures` judge each map; those that compare with the truth
    take it from `true_regions`, for each image a box (left, top, right, bottom) or a mask, in
    pixels. `seed` is that of everything random. With `stable_share` above 0 a map is not improved
    any more once this share of its strongest pixels stays the same. With `allow_partial` a map is
    as good as `timeout` allows, instead of failing. The other parameters are those of `classify`.
    """
    parameters = parameters_of(methods, **options)
    asked = message_of(pb.ExplainRequest, **parameters)

    def decode(message: Any, response: Any, request_id: str) -> Explanation:
        return explanation(message, response, asked, request_id)

    call = PerImage(SERVICE, "Explain", decode).call
    return call(settings, images, geometry, on_error, timeout, **parameters)


@with_options(parameters_of)
def explain_stream(
    settings: Settings,
    images: ImageInput | Sequence[ImageInput],
    methods: Method | Sequence[Method],
    *,
    partial_items: bool = False,
    min_interval_ms: int | None = None,
    geometry: Geometry = "network",
    on_error: OnError = "raise",
    timeout: float | None = None,
    **options: Unpack[ExplainOptions],
) -> Watch[ExplainEvent]:
    """Explains as `explain` does, and yields what there is as soon as it is there.

    Gives ExplainProgress now and then, an ExplainItem for each method and target of each image, in
    the order in which they are finished, and at the end ExplainDone with the receipt. With
    `partial_items` maps come that still improve; `min_interval_ms` is the shortest time between two
    versions of one, and between two messages of progress. Closing the generator cancels the call.
    `on_error="raise"` ends it with the first image that fails; `on_error="return"` yields an item
    with the error. `timeout` is for the whole stream, in seconds; left out, the server's own
    limit holds.
    """
    request, batch = _request(settings, images, methods, geometry, on_error, options)
    stream = message_of(
        pb.ExplainStreamRequest,
        request=request,
        partial_items=partial_items,
        min_interval_ms=min_interval_ms,
    )

    def decode(data: bytes, request_id: str) -> ExplainEvent:
        message = pb.ExplainStreamResponse.FromString(data)
        return _judged(explain_event(message, request, request_id), batch)

    return Watch(path_of(METHODS["ExplainStream"]), stream, decode, ExplainDone, timeout)


@with_options(parameters_of)
def estimate(
    settings: Settings,
    images: ImageInput | Sequence[ImageInput],
    methods: Method | Sequence[Method],
    *,
    geometry: Geometry = "network",
    timeout: float | None = None,
    **options: Unpack[ExplainOptions],
) -> Operation[Cost]:
    """Says what `explain` would ask of the network at most, and computes nothing.

    The parameters are those of `explain`.
    """
    request, _ = _request(settings, images, methods, geometry, "raise", options)
    request.estimate_only = True

    def decode(data: bytes, _: str) -> Cost:
        return cost_of(pb.ExplainResponse.FromString(data).estimated_cost)

    return Operation(path_of(METHODS["Explain"]), request, decode, timeout)


def _judged(event: ExplainEvent, batch: Batch) -> ExplainEvent:
    """The event, with what kept its image from being sent in place of the server's error."""
    if not isinstance(event, ExplainItem) or event.error is None:
        return event
    return replace(event, error=batch.error_of(event.image_index, event.error))


def _request(
    settings: Settings,
    images: ImageInput | Sequence[ImageInput],
    methods: Method | Sequence[Method],
    geometry: Geometry,
    on_error: OnError,
    options: ExplainOptions,
) -> tuple[pb.ExplainRequest, Batch]:
    parameters = parameters_of(methods, **options)
    batch = Batch.of(images, geometry, on_error, settings.max_message_bytes)
    return message_of(pb.ExplainRequest, images=batch.images, **parameters), batch
