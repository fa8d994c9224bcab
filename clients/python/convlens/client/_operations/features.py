"""Operations of the FeatureService."""

# Kept as written, so that help() shows names and not what they stand for.
from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, overload

from convlens.client._errors import ConvLensError
from convlens.client._features import (
    CodeType,
    Features,
    LayerSelection,
    Pooling,
    features,
    removed_of,
    selections_of,
)
from convlens.client._images import Geometry, ImageInput
from convlens.client._operations.base import IN_FLIGHT, OnError, Operation, Stream
from convlens.client._operations.per_image import PerImage
from convlens.client._transport import Settings
from convlens.v1 import feature_pb2

SERVICE = feature_pb2.DESCRIPTOR.services_by_name["FeatureService"]


@overload
def extract_features(
    settings: Settings,
    images: ImageInput,
    layers: str | LayerSelection | Sequence[str | LayerSelection],
    *,
    pooling: Pooling | None = None,
    dtype: CodeType | None = None,
    l2_normalize: bool = False,
    removed_layers: str | Sequence[str] = (),
    network: str = "",
    geometry: Geometry = "network",
    timeout: float | None = None,
) -> Operation[Features]: ...
@overload
def extract_features(
    settings: Settings,
    images: Sequence[ImageInput],
    layers: str | LayerSelection | Sequence[str | LayerSelection],
    *,
    pooling: Pooling | None = None,
    dtype: CodeType | None = None,
    l2_normalize: bool = False,
    removed_layers: str | Sequence[str] = (),
    network: str = "",
    geometry: Geometry = "network",
    on_error: Literal["raise"] = "raise",
    timeout: float | None = None,
) -> Operation[list[Features]]: ...
@overload
def extract_features(
    settings: Settings,
    images: Sequence[ImageInput],
    layers: str | LayerSelection | Sequence[str | LayerSelection],
    *,
    pooling: Pooling | None = None,
    dtype: CodeType | None = None,
    l2_normalize: bool = False,
    removed_layers: str | Sequence[str] = (),
    network: str = "",
    geometry: Geometry = "network",
    on_error: Literal["return"],
    timeout: float | None = None,
) -> Operation[list[Features | ConvLensError]]: ...
def extract_features(
    settings: Settings,
    images: ImageInput | Sequence[ImageInput],
    layers: str | LayerSelection | Sequence[str | LayerSelection],
    *,
    pooling: Pooling | None = None,
    dtype: CodeType | None = None,
    l2_normalize: bool = False,
    removed_layers: str | Sequence[str] = (),
    network: str = "",
    geometry: Geometry = "network",
    on_error: OnError = "raise",
    timeout: float | None = None,
) -> Operation[Any]:
    """Gives what a network computes at any of its layers, as numpy arrays.

    `layers` is a name ("features.10", "cnn-code", "logits"; `network` lists them), a
    LayerSelection, or a list of those; `pooling`, `dtype` and `l2_normalize` go for all that do not
    say it themselves, and mean what LayerSelection says. The network computes no further than the
    deepest of them. It runs without `removed_layers`, names of layers or of blocks of them: what
    they take goes on in their place where it has the shape of what they give, zeros else, and
    `Features.removed` says which. The other parameters are those of `classify`. Raises NotFound
    where the network has no such layer, FailedPrecondition where the layer cannot be read or
    removed so, InvalidRequest where the answer would be larger than a message may be, or a layer is
    to be removed twice.
    """
    selections = selections_of(layers, pooling, dtype, l2_normalize)
    gone = removed_of(removed_layers)
    asked = {"network": network, "layers": selections, "removed_layers": gone}
    call = _extraction(selections, gone).call
    return call(settings, images, geometry, on_error, timeout, **asked)


@overload
def extract_features_stream(
    settings: Settings,
    layers: str | LayerSelection | Sequence[str | LayerSelection],
    *,
    pooling: Pooling | None = None,
    dtype: CodeType | None = None,
    l2_normalize: bool = False,
    removed_layers: str | Sequence[str] = (),
    network: str = "",
    geometry: Geometry = "network",
    on_error: Literal["raise"] = "raise",
    in_flight: int = IN_FLIGHT,
    timeout: float | None = None,
) -> Stream[ImageInput, Features]: ...
@overload
def extract_features_stream(
    settings: Settings,
    layers: str | LayerSelection | Sequence[str | LayerSelection],
    *,
    pooling: Pooling | None = None,
    dtype: CodeType | None = None,
    l2_normalize: bool = False,
    removed_layers: str | Sequence[str] = (),
    network: str = "",
    geometry: Geometry = "network",
    on_error: Literal["return"],
    in_flight: int = IN_FLIGHT,
    timeout: float | None = None,
) -> Stream[ImageInput, Features | ConvLensError]: ...
def extract_features_stream(
    settings: Settings,
    layers: str | LayerSelection | Sequence[str | LayerSelection],
    *,
    pooling: Pooling | None = None,
    dtype: CodeType | None = None,
    l2_normalize: bool = False,
    removed_layers: str | Sequence[str] = (),
    network: str = "",
    geometry: Geometry = "network",
    on_error: OnError = "raise",
    in_flight: int = IN_FLIGHT,
    timeout: float | None = None,
) -> Stream[ImageInput, Any]:
    """Gives the codes of any number of pictures, in their order and in constant memory.

    `layers`, what is done to them and `removed_layers` are as in `extract_features`; the stream
    behaves like `classify_stream`.
    """
    selections = selections_of(layers, pooling, dtype, l2_normalize)
    gone = removed_of(removed_layers)
    asked = {"network": network, "layers": selections, "removed_layers": gone}
    stream = _extraction(selections, gone).stream
    return stream(settings, geometry, on_error, in_flight, timeout, **asked)


def _extraction(
    selections: Sequence[feature_pb2.LayerSelection], removed: Sequence[str]
) -> PerImage[Features]:
    selected = tuple(selection.layer for selection in selections)
    return PerImage(
        SERVICE,
        "ExtractFeatures",
        lambda message, response, _: features(message, response, selected, len(removed)),
    )
