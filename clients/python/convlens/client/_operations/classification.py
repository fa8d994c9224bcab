"""Operations of the ClassificationService."""

# Kept as written, so that help() shows names and not what they stand for.
from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, overload

from convlens.client import _results
from convlens.client._errors import ConvLensError
from convlens.client._images import Geometry, ImageInput
from convlens.client._operations.base import IN_FLIGHT, OnError, Operation, Stream
from convlens.client._operations.per_image import PerImage
from convlens.client._results import Classification
from convlens.client._transport import Settings
from convlens.v1 import classification_pb2

CLASSIFY = PerImage(
    classification_pb2.DESCRIPTOR.services_by_name["ClassificationService"],
    "Classify",
    lambda message, response, _: _results.classification(message, response.receipt),
)


@overload
def classify(
    settings: Settings,
    images: ImageInput,
    *,
    network: str = "",
    top_k: int | None = None,
    geometry: Geometry = "network",
    timeout: float | None = None,
) -> Operation[Classification]: ...
@overload
def classify(
    settings: Settings,
    images: Sequence[ImageInput],
    *,
    network: str = "",
    top_k: int | None = None,
    geometry: Geometry = "network",
    on_error: Literal["raise"] = "raise",
    timeout: float | None = None,
) -> Operation[list[Classification]]: ...
@overload
def classify(
    settings: Settings,
    images: Sequence[ImageInput],
    *,
    network: str = "",
    top_k: int | None = None,
    geometry: Geometry = "network",
    on_error: Literal["return"],
    timeout: float | None = None,
) -> Operation[list[Classification | ConvLensError]]: ...
def classify(
    settings: Settings,
    images: ImageInput | Sequence[ImageInput],
    *,
    network: str = "",
    top_k: int | None = None,
    geometry: Geometry = "network",
    on_error: OnError = "raise",
    timeout: float | None = None,
) -> Operation[Any]:
    """Says what is in a picture, or in each of a list of pictures.

    An image is a path, bytes, an open file, a PIL image, a numpy array or a torch tensor; see
    `ImageInput`. One image gives one Classification; a list gives a list, in its order. Of a list,
    `on_error="raise"` raises the error of the first image that failed, whose `index` says which;
    `on_error="return"` puts each error where the result would be. `network` and `top_k` mean what
    ClassifyRequest says; left out, the server's defaults. `timeout` is in seconds; left out, the
    client's.
    """
    return CLASSIFY.call(
        settings, images, geometry, on_error, timeout, network=network, top_k=top_k
    )


@overload
def classify_stream(
    settings: Settings,
    *,
    network: str = "",
    top_k: int | None = None,
    geometry: Geometry = "network",
    on_error: Literal["raise"] = "raise",
    in_flight: int = IN_FLIGHT,
    timeout: float | None = None,
) -> Stream[ImageInput, Classification]: ...
@overload
def classify_stream(
    settings: Settings,
    *,
    network: str = "",
    top_k: int | None = None,
    geometry: Geometry = "network",
    on_error: Literal["return"],
    in_flight: int = IN_FLIGHT,
    timeout: float | None = None,
) -> Stream[ImageInput, Classification | ConvLensError]: ...
def classify_stream(
    settings: Settings,
    *,
    network: str = "",
    top_k: int | None = None,
    geometry: Geometry = "network",
    on_error: OnError = "raise",
    in_flight: int = IN_FLIGHT,
    timeout: float | None = None,
) -> Stream[ImageInput, Any]:
    """Says what is in each of any number of pictures, in their order and in constant memory.

    The pictures are read as the answers are taken: at most `in_flight` of them are under way, and
    none is read ahead of that. They are read in another thread, so that a slow source does not
    hold back what is answered already. `on_error="raise"` ends the stream with the first picture
    that fails; `on_error="return"` yields its error in its place and goes on. `timeout` is for
    the whole stream, in seconds; left out, there is none. The other parameters are those of
    `classify`.
    """
    return CLASSIFY.stream(
        settings, geometry, on_error, in_flight, timeout, network=network, top_k=top_k
    )
