"""Where objects are and how good explanations are, as the SDK returns it."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from google.protobuf.message import Message
from numpy.typing import NDArray

from convlens.client._errors import ConvLensError, from_status
from convlens.client._tensors import array_of
from convlens.contract.rules import title_of
from convlens.v1 import geometry_pb2, quality_pb2


class Box(NamedTuple):
    """A rectangle by its edges in pixels, where pixel i reaches from i to i + 1."""

    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True, slots=True, eq=False)
class Region:
    """The object that was found in a map, in pixels of the original picture.

    `mask` is uint8 [height, width], 1 inside.
    """

    box: Box
    mask: NDArray[np.uint8] = field(repr=False)


@dataclass(frozen=True, slots=True)
class QualityScore:
    """What one measure says of one map; `error` says why where `score` is None.

    `measure` is its title, `name` what the contract calls it, `parameters` the measure with every
    default filled in. `curve` has the probability of the target after each step of Deletion and
    Insertion.
    """

    measure: str
    name: str
    parameters: Message = field(repr=False)
    score: float | None
    curve: tuple[float, ...] = field(repr=False)
    error: ConvLensError | None


def chosen(message: Message, oneof: str) -> tuple[str, Any]:
    """Which of several a message is, and that one."""
    name = message.WhichOneof(oneof) or ""
    return name, getattr(message, name, message)


def box_of(message: geometry_pb2.Box) -> Box:
    """The box."""
    return Box(message.left, message.top, message.right, message.bottom)


def region_of(message: quality_pb2.Region) -> Region:
    """The region."""
    return Region(box_of(message.box), array_of(message.mask))


def quality_score(message: quality_pb2.QualityScore, request_id: str) -> QualityScore:
    """The score, or its error."""
    name, parameters = chosen(message.measure, "measure")
    answered = message.WhichOneof("outcome") == "value"
    return QualityScore(
        title_of(parameters),
        name,
        parameters,
        message.value.score if answered else None,
        tuple(message.value.curve),
        None if answered else from_status(message.error, request_id=request_id),
    )
