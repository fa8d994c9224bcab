"""What single methods say beyond their map, as the SDK returns it."""

from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from convlens.client._drawing import Pixels, drawn, montage
from convlens.client._quality import Box, box_of
from convlens.client._results import plain
from convlens.client._shown import Shown
from convlens.client._tensors import array_of
from convlens.v1 import explanation_pb2 as pb


@dataclass(frozen=True, slots=True)
class IntegratedGradientsDetails:
    """Scores of the target for the picture and the baseline, and whether the steps sufficed."""

    score: float
    baseline_score: float
    converged: bool


@dataclass(frozen=True, slots=True, eq=False)
class DeconvnetPatch(Shown):
    """The projection of one map, cut to what its unit sees.

    `reconstruction` and `input_patch` are [height, width, channels]; `position` is the unit's (row,
    column), None for the whole map; `receptive_field` is in pixels of the network's input. `scale`
    is the largest absolute value among all patches of this map in the request.
    """

    map_index: int
    position: tuple[int, int] | None
    activation: float
    receptive_field: Box
    reconstruction: NDArray[Any] = field(repr=False)
    input_patch: NDArray[Any] = field(repr=False)
    scale: float
    png: bytes = field(repr=False)

    def numbers(self) -> NDArray[Any]:
        return self.reconstruction

    def _pixels(self) -> Pixels:
        return drawn(self.reconstruction, "reconstruction", self.scale)


@dataclass(frozen=True, slots=True)
class DeconvnetDetails:
    """The projections of a layer's maps, the strongest first."""

    patches: tuple[DeconvnetPatch, ...]

    @property
    def parts(self) -> tuple[Shown, ...]:
        """The patches."""
        return self.patches


@dataclass(frozen=True, slots=True, eq=False)
class OcclusionDetails:
    """What happened when each window was covered.

    `probability` of the target, `predicted_class` and the total `activation` of the watched map are
    [rows, columns]; the last is None where no map was watched. `window`, `stride` and the centres
    are in pixels of the network's input.
    """

    probability: NDArray[Any] = field(repr=False)
    predicted_class: NDArray[np.int64] = field(repr=False)
    activation: NDArray[Any] | None = field(repr=False)
    watched_map_index: int
    clean_activation: float
    window: int
    stride: int
    center_rows: tuple[float, ...] = field(repr=False)
    center_columns: tuple[float, ...] = field(repr=False)
    #: Windows that an adaptive sweep did not compute.
    windows_saved: int
    #: Why whole forward passes were needed; empty where they were not.
    full_passes_reason: str


@dataclass(frozen=True, slots=True, eq=False)
class ActivationMap(Shown):
    """One map of a layer with its strength; `values` are [height, width]."""

    map_index: int
    strength: float
    values: NDArray[Any] = field(repr=False)
    png: bytes = field(repr=False)

    def numbers(self) -> NDArray[Any]:
        return self.values

    def _pixels(self) -> Pixels:
        return drawn(self.values, "signed" if self.values.min(initial=0) < 0 else "non_negative")


@dataclass(frozen=True, slots=True)
class ActivationsDetails:
    """The strongest maps of a layer, the strongest first."""

    maps: tuple[ActivationMap, ...]

    @property
    def parts(self) -> tuple[Shown, ...]:
        """The maps."""
        return self.maps


@dataclass(frozen=True, slots=True, eq=False)
class FilterPlanes(Shown):
    """One filter of a convolution; `weights` are [planes, height, width]."""

    map_index: int
    weights: NDArray[Any] = field(repr=False)
    png: bytes = field(repr=False)

    def numbers(self) -> NDArray[Any]:
        return self.weights

    def _pixels(self) -> Pixels:
        scale = float(np.abs(self.weights).max(initial=0)) or 1.0
        if len(self.weights) == 3:
            return drawn(np.moveaxis(self.weights, 0, -1), "reconstruction", scale)
        return montage([drawn(plane, "reconstruction", scale) for plane in self.weights])


@dataclass(frozen=True, slots=True)
class FiltersDetails:
    """The filters of a convolution, in the layer's order."""

    filters: tuple[FilterPlanes, ...]

    @property
    def parts(self) -> tuple[Shown, ...]:
        """The filters."""
        return self.filters


Details: TypeAlias = (
    IntegratedGradientsDetails
    | DeconvnetDetails
    | OcclusionDetails
    | ActivationsDetails
    | FiltersDetails
)


def details_of(message: pb.Attribution) -> Details | None:
    """What the attribution says beyond its map; None where that is nothing."""
    match message.WhichOneof("details"):
        case "integrated_gradients":
            return plain(IntegratedGradientsDetails, message.integrated_gradients)
        case "deconvnet":
            return DeconvnetDetails(tuple(map(_patch, message.deconvnet.patches)))
        case "occlusion":
            return _occlusion(message.occlusion)
        case "activations":
            return ActivationsDetails(
                tuple(
                    plain(ActivationMap, entry, values=array_of(entry.values))
                    for entry in message.activations.maps
                )
            )
        case "filters":
            return FiltersDetails(
                tuple(
                    plain(FilterPlanes, entry, weights=array_of(entry.weights))
                    for entry in message.filters.filters
                )
            )
        case _:
            return None


def _patch(message: pb.DeconvnetPatch) -> DeconvnetPatch:
    place = message.position
    return plain(
        DeconvnetPatch,
        message,
        position=(place.row, place.column) if message.HasField("position") else None,
        receptive_field=box_of(message.receptive_field),
        reconstruction=array_of(message.reconstruction),
        input_patch=array_of(message.input_patch),
    )


def _occlusion(message: pb.OcclusionDetails) -> OcclusionDetails:
    return plain(
        OcclusionDetails,
        message,
        probability=array_of(message.probability),
        predicted_class=array_of(message.predicted_class),
        activation=array_of(message.activation) if message.HasField("activation") else None,
    )
