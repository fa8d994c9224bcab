"""How strongly a map points at each place."""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from convlens.v1 import explanation_pb2
from convlens.workers.rendering.ink import finite

Array: TypeAlias = NDArray[Any]
Plane: TypeAlias = NDArray[np.float64]

# Equal numbers may differ by so much of them once a map was brought to another size.
ROUNDING = 1e-6


def plane(values: Array, sign: explanation_pb2.MapSign.ValueType) -> Plane:
    """A map [h, w] or [h, w, channels] as [h, w]: one number for each place.

    Of a map with signs its channels added up; of others the largest absolute value over the
    channels, as Simonyan et al. 2013, arXiv:1312.6034.
    """
    values = finite(values)
    if sign == explanation_pb2.MAP_SIGN_SIGNED:
        return values.sum(axis=2) if values.ndim == 3 else values
    values = np.abs(values)
    return values.max(axis=2) if values.ndim == 3 else values


def strength(values: Array, sign: explanation_pb2.MapSign.ValueType) -> Plane:
    """How strongly a map points at each place [h, w], 0 or more: what speaks for the target."""
    return np.maximum(plane(values, sign), 0)


def points_nowhere(strengths: Array) -> bool:
    """Whether every place is as strong as the others."""
    return bool(strengths.min() >= strengths.max() * (1 - ROUNDING))
