"""Turns what callers of `explain` give into the contract's messages."""

# Kept as written, so that help() shows names and not what they stand for.
from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from typing import Any, Literal, SupportsIndex, TypeAlias, TypedDict, TypeVar, cast

import numpy as np
from google.protobuf.message import Message
from numpy.typing import NDArray

from convlens.client import methods as m
from convlens.client._errors import InvalidRequest
from convlens.client._images import ArrayLike
from convlens.client._operations.base import message_of
from convlens.client._tensors import tensor_of
from convlens.contract.rules import kind_of
from convlens.v1 import geometry_pb2, tensor_pb2

M = TypeVar("M", bound=Message)

Method: TypeAlias = (
    m.Saliency
    | m.InputXGradient
    | m.SmoothGrad
    | m.IntegratedGradients
    | m.GuidedBackprop
    | m.Deconvnet
    | m.Occlusion
    | m.GradCam
    | m.GuidedGradCam
    | m.Activations
    | m.Filters
    | m.DenseMap
    | m.ExplanationMethod
)
Measure: TypeAlias = (
    m.Deletion
    | m.Insertion
    | m.Completeness
    | m.MaxSensitivity
    | m.ModelRandomization
    | m.PointingGame
    | m.RegionOverlap
    | m.QualityMeasure
)
TargetInput: TypeAlias = int | str | m.Rank | m.Target
#: (left, top, right, bottom) in pixels of the picture, or a mask [height, width], not 0 inside.
RegionInput: TypeAlias = tuple[float, float, float, float] | NDArray[Any] | m.TrueRegion | None
MapType: TypeAlias = Literal["float32", "float16"]

MAP_TYPES = {
    "float32": tensor_pb2.DATA_TYPE_FLOAT32,
    "float16": tensor_pb2.DATA_TYPE_FLOAT16,
}


class ExplainOptions(TypedDict, total=False):
    """What may be said beside the pictures and the methods; `explain` says what each means."""

    targets: TargetInput | Sequence[TargetInput]
    dtype: MapType | None
    rendering: Literal["heat_map", "overlay"] | m.Rendering | None
    localization: Literal["grabcut", "threshold"] | m.Localization | None
    measures: Measure | Sequence[Measure]
    true_regions: RegionInput | Sequence[RegionInput]
    seed: int | None
    stable_share: float | None
    allow_partial: bool
    network: str


def parameters_of(
    methods: Method | Sequence[Method],
    *,
    targets: TargetInput | Sequence[TargetInput] = (),
    dtype: MapType | None = None,
    rendering: Literal["heat_map", "overlay"] | m.Rendering | None = None,
    localization: Literal["grabcut", "threshold"] | m.Localization | None = None,
    measures: Measure | Sequence[Measure] = (),
    true_regions: RegionInput | Sequence[RegionInput] = None,
    seed: int | None = None,
    stable_share: float | None = None,
    allow_partial: bool = False,
    network: str = "",
) -> dict[str, Any]:
    """The fields of an ExplainRequest beside its images; InvalidRequest where one is none."""
    if dtype is not None and dtype not in MAP_TYPES:
        raise InvalidRequest(f"dtype is {dtype!r}; it must be one of {', '.join(MAP_TYPES)}.")
    return {
        "methods": [wrapped("methods", m.ExplanationMethod, e) for e in listed(methods)],
        "targets": [target_of(entry) for entry in listed(targets)],
        "dtype": MAP_TYPES[dtype] if dtype else None,
        "rendering": _named("rendering", m.Rendering, "style", rendering),
        "localization": _named("localization", m.Localization, "method", localization),
        "measures": [wrapped("measures", m.QualityMeasure, e) for e in listed(measures)],
        "true_regions": [_region(entry) for entry in _regions(true_regions)],
        "seed": seed,
        "stable_share": stable_share,
        "allow_partial": allow_partial,
        "network": network,
    }


def choices_of(kind: type[Message]) -> Mapping[str, str]:
    """The field of each class of messages that `kind` is one of, by its name."""
    return {field.message_type.name: field.name for field in cast(Any, kind.DESCRIPTOR).fields}


def listed(given: object) -> Iterable[Any]:
    """What is given once or as a list, as a list."""
    single = isinstance(given, str | Message | type) or not isinstance(given, Iterable)
    return [given] if single else cast(Iterable[object], given)


def wrapped(what: str, kind: type[M], entry: object, also: str = ", or a list of those") -> M:
    """The entry as `kind`, which is one of several."""
    if isinstance(entry, kind):
        return entry
    choices = choices_of(kind)
    if isinstance(entry, Message) and (name := kind_of(entry).name) in choices:
        return kind(**{choices[name]: entry})
    if isinstance(entry, type) and entry.__name__ in choices:
        raise InvalidRequest(f"{what} has the class {entry.__name__}; write {entry.__name__}().")
    raise InvalidRequest(
        f"{what} has a {type(entry).__name__}; it must be one of {', '.join(choices)}{also}."
    )


def target_of(given: object) -> m.Target:
    """The contract's target for what stands for a class; InvalidRequest where nothing does."""
    if isinstance(given, m.Target):
        return given
    if isinstance(given, m.Rank):
        return message_of(m.Target, rank=given.rank)
    if isinstance(given, str):
        return message_of(m.Target, label=given)
    if isinstance(given, SupportsIndex) and not isinstance(given, bool):
        return message_of(m.Target, class_index=operator.index(given))
    raise InvalidRequest(
        f"A target is a {type(given).__name__}; it must be the index of a class, its label, a "
        "Rank, or a list of those."
    )


def _named(what: str, kind: type[M], enum: str, given: object) -> M | None:
    """The message, which may also be given by the short name of one of its values."""
    if given is None or isinstance(given, kind):
        return given
    values = cast(Any, kind.DESCRIPTOR).fields_by_name[enum].enum_type.values
    prefix = values[0].name.removesuffix("UNSPECIFIED")
    known = {value.name.removeprefix(prefix).lower(): value.number for value in values[1:]}
    if isinstance(given, str) and given in known:
        return kind(**{enum: known[given]})
    raise InvalidRequest(
        f"{what} is {given!r}; it must be one of {', '.join(known)}, or a {kind.__name__}."
    )


def _regions(given: object) -> Iterable[object]:
    if given is None:
        return []
    single = isinstance(given, m.TrueRegion | ArrayLike) or _is_box(given)
    if single or not isinstance(given, Iterable):
        return [given]
    return cast(Iterable[object], given)


def _is_box(given: object) -> bool:
    if not isinstance(given, Sequence):
        return False
    numbers = cast(Sequence[object], given)
    return len(numbers) == 4 and all(isinstance(number, Real) for number in numbers)


def _region(given: Any) -> m.TrueRegion:
    """The contract's region; one that says nothing where it is not known."""
    if given is None:
        return m.TrueRegion()
    if isinstance(given, m.TrueRegion):
        return given
    if _is_box(given):
        left, top, right, bottom = map(float, given)
        box = geometry_pb2.Box(left=left, top=top, right=right, bottom=bottom)
        return m.TrueRegion(box=box)
    mask = np.asarray(given) if isinstance(given, ArrayLike) else None
    if mask is None or mask.ndim != 2:
        raise InvalidRequest(
            "A true region must be a box (left, top, right, bottom) or a mask of shape [height, "
            "width], in pixels of the picture; None where it is not known."
        )
    return m.TrueRegion(mask=tensor_of((mask != 0).astype(np.uint8)))
