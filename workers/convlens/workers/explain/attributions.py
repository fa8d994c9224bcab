"""What was found, as the messages of the contract."""

import torch
from torch import Tensor

from convlens.contract.validation import Violation, invalid
from convlens.v1 import explanation_pb2, geometry_pb2, tensor_pb2
from convlens.v1.target_pb2 import ClassScore
from convlens.workers.explain.found import Found
from convlens.workers.pictures import Picture


def tensor_of(values: Tensor, dtype: int, *, checked: bool = True) -> tensor_pb2.Tensor:
    """Numbers as bytes; raises Failure INVALID_REQUEST where the type does not hold them.

    Unless they are `checked`, NaN may stand for what was not computed.
    """
    half = dtype == tensor_pb2.DATA_TYPE_FLOAT16
    numbers = values.detach().to("cpu", torch.float16 if half else torch.float32).contiguous()
    if half and checked and not bool(numbers.isfinite().all()):
        largest = float(values.abs().max())
        words = f"is DATA_TYPE_FLOAT16, which does not hold {largest:g}; ask for DATA_TYPE_FLOAT32"
        raise invalid([Violation(field="dtype", description=words)])
    return tensor_pb2.Tensor(
        dtype=tensor_pb2.DATA_TYPE_FLOAT16 if half else tensor_pb2.DATA_TYPE_FLOAT32,
        shape=numbers.shape,
        data=numbers.numpy().tobytes(),
    )


def geometry_of(picture: Picture, found: Found) -> explanation_pb2.MapGeometry:
    """How the map lies on the original picture."""
    prepared = picture.prepared
    left, top, right, bottom = found.box or prepared.box
    return explanation_pb2.MapGeometry(
        crop=geometry_pb2.Box(left=left, top=top, right=right, bottom=bottom),
        original_height=prepared.height,
        original_width=prepared.width,
    )


def attribution_of(
    found: Found, picture: Picture, target: ClassScore | None, dtype: int
) -> explanation_pb2.Attribution:
    """The message, with nothing drawn, localised or judged yet."""
    made = explanation_pb2.Attribution()
    if found.details:
        made.MergeFrom(found.details)
    if target is not None:
        made.target.CopyFrom(target)
    if found.map is not None:
        made.map.CopyFrom(tensor_of(found.map, dtype))
        made.space, made.sign = found.space, found.sign
        made.geometry.CopyFrom(geometry_of(picture, found))
    made.quantity, made.layer, made.samples = found.quantity, found.layer, found.samples
    if found.error is not None:
        made.error_estimate.CopyFrom(found.error)
    made.is_partial = found.is_partial
    made.notes.extend(found.notes)
    return made
