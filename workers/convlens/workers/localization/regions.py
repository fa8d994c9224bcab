"""Parts of a picture: found, or true."""

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from convlens.v1 import explanation_pb2, geometry_pb2, quality_pb2
from convlens.workers.localization.strength import points_nowhere, strength

Array: TypeAlias = NDArray[Any]
Mask: TypeAlias = NDArray[np.uint8]
Edges: TypeAlias = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True, eq=False)
class Region:
    """A part of the original picture.

    `mask` is 1 inside and 0 outside, uint8 [height, width] of the original picture, and 1
    somewhere; `box` is the smallest around it.
    """

    box: geometry_pb2.Box
    mask: Mask

    @classmethod
    def of(cls, mask: Mask) -> "Region":
        """The region of a mask that is 1 somewhere."""
        (top, bottom), (left, right) = (_ends(mask, axis) for axis in (1, 0))
        box = geometry_pb2.Box(left=left, top=top, right=right, bottom=bottom)
        return cls(box, mask)


def overlap(found: Region | None, truth: quality_pb2.TrueRegion) -> float:
    """Intersection over union, in [0, 1], of the masks where `truth` has one, else of the boxes.

    0 where nothing was found. `truth` is known and has passed `check_true_region`; a box that
    reaches over the border counts as far as the border. Everingham et al. 2010, IJCV 88.
    """
    if found is None:
        return 0.0
    height, width = found.mask.shape
    if truth.WhichOneof("region") == "mask":
        true = mask_of(truth.mask)
        both = np.count_nonzero(found.mask & true)
        return both / np.count_nonzero(found.mask | true)
    ours, theirs = _edges(found.box), _edges(truth.box)
    theirs = _common(theirs, (0, 0, width, height))
    both = _area(_common(ours, theirs))
    return both / (_area(ours) + _area(theirs) - both)


def points_at(
    values: Array,
    sign: explanation_pb2.MapSign.ValueType,
    geometry: explanation_pb2.MapGeometry,
    truth: quality_pb2.TrueRegion,
    tolerance: float,
) -> bool:
    """Whether the strongest place of a map lies in the true region, or `tolerance` pixels from it.

    Distances are those of the original picture; of several places the first in reading order
    counts, and a map that is the same everywhere points nowhere. `truth` is known and has passed
    `check_true_region`. Zhang et al. 2016, arXiv:1608.00507.
    """
    strengths = strength(values, sign)
    if points_nowhere(strengths):
        return False
    row, column = np.unravel_index(strengths.argmax(), strengths.shape)
    crop, (height, width) = geometry.crop, strengths.shape
    x = crop.left + (column + 0.5) * (crop.right - crop.left) / width
    y = crop.top + (row + 0.5) * (crop.bottom - crop.top) / height
    if truth.WhichOneof("region") == "mask":
        return _distance_to_mask(x, y, mask_of(truth.mask), tolerance) <= tolerance
    left, top, right, bottom = _edges(truth.box)
    return bool(np.hypot(_outside(x, left, right), _outside(y, top, bottom)) <= tolerance)


def mask_of(tensor: Any) -> Mask:
    """The mask of a Tensor that has been checked: 1 inside and 0 outside, uint8 [height, width]."""
    values = np.frombuffer(tensor.data, np.uint8).reshape(tuple(tensor.shape))
    return (values != 0).astype(np.uint8)


def _ends(mask: Mask, axis: int) -> tuple[int, int]:
    places = np.flatnonzero(np.any(mask, axis=axis))
    return int(places[0]), int(places[-1]) + 1


def _distance_to_mask(x: float, y: float, mask: Mask, reach: float) -> float:
    """To the nearest pixel inside, of those that `reach` may reach; infinite without any."""
    margin = int(reach) + 1
    top, left = max(int(y) - margin, 0), max(int(x) - margin, 0)
    near = mask[top : max(int(y) + margin + 1, 0), left : max(int(x) + margin + 1, 0)]
    rows, columns = np.nonzero(near)
    rows, columns = rows + top, columns + left
    distances = np.hypot(_outside(x, columns, columns + 1), _outside(y, rows, rows + 1))
    return float(distances.min(initial=np.inf))


def _outside(place: float, low: Any, high: Any) -> Any:
    """How far a place is from an interval."""
    return np.maximum(np.maximum(low - place, place - high), 0)


def _edges(box: geometry_pb2.Box) -> Edges:
    return box.left, box.top, box.right, box.bottom


def _common(a: Edges, b: Edges) -> Edges:
    return max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])


def _area(edges: Edges) -> float:
    left, top, right, bottom = edges
    return max(right - left, 0) * max(bottom - top, 0)
