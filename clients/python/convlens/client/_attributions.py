"""One method's answer for one image and one target, as the SDK returns it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from google.protobuf.message import Message
from numpy.typing import NDArray

from convlens.client._details import (
    ActivationsDetails,
    DeconvnetDetails,
    Details,
    FiltersDetails,
    details_of,
)
from convlens.client._drawing import Pixels, drawn
from convlens.client._errors import ConvLensError, Internal, from_status
from convlens.client._quality import (
    Box,
    QualityScore,
    Region,
    box_of,
    chosen,
    quality_score,
    region_of,
)
from convlens.client._results import ClassScore, Receipt, plain
from convlens.client._shown import Shown
from convlens.client._tensors import array_of
from convlens.contract.rules import title_of
from convlens.v1 import explanation_pb2 as pb
from convlens.v1 import target_pb2


@dataclass(frozen=True, slots=True)
class MapGeometry:
    """How a map lies on the original picture: `crop` is the part that it covers, in pixels."""

    crop: Box
    original_height: int
    original_width: int


@dataclass(frozen=True, slots=True)
class ErrorEstimate:
    """How far a map may be from the exact answer.

    `kind` is "completeness", "standard_error", "refinement" or "approximation"; `absolute` is in
    the map's own quantity, or of the score for completeness; `relative` is None where what it is
    relative to is 0.
    """

    kind: str
    absolute: float
    relative: float | None


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Attribution(Shown):
    """One method's answer for one image and one target, or why it has none.

    `method` is its title ("Grad-CAM"), `name` what the contract calls it ("grad_cam"),
    `parameters` the method as it was asked for. `target` is the class explained; it is None where
    the method knows no targets or failed. Where `error` is set, there is nothing else. Its picture
    is that of the map, or of all `parts` where there are several.
    """

    method: str
    name: str
    parameters: Message
    method_index: int
    target_index: int | None
    #: The target as it was asked for; None where none was, which means the prediction.
    asked_target: target_pb2.Target | None
    error: ConvLensError | None = None
    target: ClassScore | None = None
    values: NDArray[Any] | None = None
    #: Where the numbers live: "input_pixels" or "grid".
    space: str = ""
    #: What signs mean: "non_negative", "signed" or "reconstruction".
    sign: str = ""
    #: What one number is: "score per unit of pixel".
    quantity: str = ""
    geometry: MapGeometry | None = None
    #: The layer that the method looked at; empty where it looked at none.
    layer: str = ""
    #: Steps, samples or windows that it is made of.
    samples: int = 0
    error_estimate: ErrorEstimate | None = None
    #: The deadline came before the method was done.
    is_partial: bool = False
    notes: tuple[str, ...] = ()
    png: bytes = b""
    region: Region | None = None
    scores: tuple[QualityScore, ...] = ()
    details: Details | None = None
    #: How the answer came about; None in a stream, whose end brings it.
    receipt: Receipt | None = None

    @property
    def map(self) -> NDArray[Any]:
        """The map [height, width] or [height, width, channels]; the array cannot be written to.

        Raises `error` where the method failed, and LookupError for Activations and Filters, which
        have their numbers in `details`.
        """
        if self.error is not None:
            raise self.error
        if self.values is None:
            raise LookupError(f"{self.method} has no map of its own; its numbers are in details.")
        return self.values

    @property
    def parts(self) -> tuple[Shown, ...]:
        """The pictures that a method gives beyond a map: of Deconvnet, Activations, Filters."""
        found = self.details
        if isinstance(found, DeconvnetDetails | ActivationsDetails | FiltersDetails):
            return found.parts
        return ()

    def __repr__(self) -> str:
        of = f" of {self.target}" if self.target else ""
        if self.error is not None:
            return f"<{self.method}: {self.error}>"
        shape = f", {list(self.values.shape)} {self.sign}" if self.values is not None else ""
        parts = f", {len(self.parts)} parts" if self.parts else ""
        partial = ", partial" if self.is_partial else ""
        return f"<{self.method}{of}{shape}{parts}{partial}>"

    def numbers(self) -> NDArray[Any]:
        if self.values is None and self.parts:
            return np.stack([part.numbers() for part in self.parts])
        return self.map

    def _pixels(self) -> Pixels:
        return drawn(self.map, self.sign)

    def _as_png(self) -> bytes:
        if self.error is not None:
            raise self.error
        several = len(self.parts) > 1 or (self.parts and self.values is None)
        return self._sheet(self.parts) if several else Shown._as_png(self)

    def _repr_png_(self) -> bytes | None:
        return None if self.error else self._as_png()


def attribution(
    message: pb.AttributionResult,
    asked: pb.ExplainRequest,
    receipt: Receipt | None,
    request_id: str,
) -> Attribution:
    """One method's answer, or its error, to what was `asked`."""
    index = message.target_index if message.HasField("target_index") else None
    if message.method_index >= len(asked.methods) or (index or 0) >= max(1, len(asked.targets)):
        raise Internal("The server answered a method or a target that was not asked for.")
    name, parameters = chosen(asked.methods[message.method_index], "method")
    common: dict[str, Any] = {
        "method": title_of(parameters),
        "name": name,
        "parameters": parameters,
        "method_index": message.method_index,
        "target_index": index,
        "asked_target": asked.targets[index] if asked.targets and index is not None else None,
        "receipt": receipt,
    }
    if message.WhichOneof("outcome") != "attribution":
        return Attribution(**common, error=from_status(message.error, request_id=request_id))
    return _answered(message.attribution, common, request_id)


def _answered(message: pb.Attribution, common: dict[str, Any], request_id: str) -> Attribution:
    target, geometry, error = message.target, message.geometry, message.error_estimate
    return plain(
        Attribution,
        message,
        **common,
        error=None,
        target=plain(ClassScore, target, index=target.class_index)
        if message.HasField("target")
        else None,
        values=array_of(message.map) if message.HasField("map") else None,
        geometry=plain(MapGeometry, geometry, crop=box_of(geometry.crop))
        if message.HasField("geometry")
        else None,
        error_estimate=plain(ErrorEstimate, error) if message.HasField("error_estimate") else None,
        region=region_of(message.region) if message.HasField("region") else None,
        scores=tuple(quality_score(score, request_id) for score in message.scores),
        details=details_of(message),
    )
