"""Finds the object that a map points at."""

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from convlens.v1 import explanation_pb2, quality_pb2
from convlens.workers.images import Pixels
from convlens.workers.images.placement import Placement, Span, fitted
from convlens.workers.localization.regions import Region
from convlens.workers.localization.segmentation import (
    GAUSSIANS,
    grabcut,
    largest_component,
    strongest,
    weakest,
)
from convlens.workers.localization.strength import plane, points_nowhere
from convlens.workers.rendering.pictures import image_of, resized

Array: TypeAlias = NDArray[Any]
Flags: TypeAlias = NDArray[np.bool_]

# Pixels on a side: GrabCut takes up to a second for so many, and seven for twice as many.
LONGEST = 256
NOWHERE = "the map is the same everywhere, so no object is found in it"
TOO_FEW = (
    f"GrabCut needs {GAUSSIANS} pixels each of sure foreground and background; "
    "the region is all of the foreground instead"
)


@dataclass(frozen=True, slots=True)
class Finding:
    """The object that a map points at, or none, and what a reader must know of it, or nothing."""

    region: Region | None
    note: str = ""


def localize(
    values: Array,
    sign: explanation_pb2.MapSign.ValueType,
    picture: Pixels,
    geometry: explanation_pb2.MapGeometry,
    p: quality_pb2.Localization,
) -> Finding:
    """The object in the original picture that a map [h, w] or [h, w, channels] points at.

    `picture` is the part of the original that the map covers, as the network takes it; it is cut at
    its own size, at most LONGEST pixels on a side. Of maps with signs, what speaks for the target
    is foreground, and what says little either way is background. `p` has passed
    `check_localization`. Simonyan et al. 2013, arXiv:1312.6034, section 3.2.
    """
    height, width = fitted(picture.height, picture.width, LONGEST)
    seen = _on_picture(geometry, height, width)
    numbers = plane(values, sign)
    relative = (numbers / (np.abs(numbers).max() or 1)).astype(np.float32)
    shares = Placement.everywhere(height, width).spread(relative)[seen]
    if points_nowhere(np.maximum(shares, 0)):
        return Finding(None, NOWHERE)
    colors = np.asarray(resized(image_of(picture), (width, height)).convert("RGB"))[seen]
    cut, note = _cut(shares, colors, p)
    mask = np.zeros((height, width), np.uint8)
    mask[seen] = largest_component(cut) if p.largest_component else cut
    return Finding(Region.of(_on_original(mask, geometry)), note)


def _cut(
    shares: Array, colors: NDArray[np.uint8], p: quality_pb2.Localization
) -> tuple[Flags, str]:
    foreground = strongest(np.maximum(shares, 0), p.foreground_quantile)
    if p.method == quality_pb2.LOCALIZATION_METHOD_THRESHOLD:
        return foreground, ""
    # What speaks against the target may still be the object: only what says nothing is sure not to.
    background = weakest(np.abs(shares), p.background_quantile) & ~foreground
    found = grabcut(np.ascontiguousarray(colors), foreground, background, p.iterations)
    return (foreground, TOO_FEW) if found is None else (found, "")


def _on_picture(
    geometry: explanation_pb2.MapGeometry, height: int, width: int
) -> tuple[slice, slice]:
    """The rows and columns of what the network took, [height, width], that are not padding."""
    crop = geometry.crop
    down, across = height / (crop.bottom - crop.top), width / (crop.right - crop.left)
    bottom, right = geometry.original_height - crop.top, geometry.original_width - crop.left
    rows = Span.of(-crop.top * down, bottom * down, height, height)
    columns = Span.of(-crop.left * across, right * across, width, width)
    return slice(rows.start, rows.stop), slice(columns.start, columns.stop)


def _on_original(
    mask: NDArray[np.uint8], geometry: explanation_pb2.MapGeometry
) -> NDArray[np.uint8]:
    """A mask of what the map covers as one of the original picture, 1 somewhere as it is."""
    place = Placement.on_original(geometry)
    shown = place.spread(mask * np.uint8(255)) > 127
    if not shown.any():
        # Less than half of any pixel: the pixel that it covers most.
        covered = place.spread(mask.astype(np.float32))
        shown = covered == covered.max()
    whole = np.zeros((place.height, place.width), np.uint8)
    whole[place.window] = shown
    return whole
