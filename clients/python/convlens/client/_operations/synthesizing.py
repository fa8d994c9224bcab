"""Turns what callers of `synthesize` give into the contract's messages."""

# Kept as written, so that help() shows names and not what they stand for.
from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Any, TypeAlias, TypedDict, cast

import numpy as np
from google.protobuf.message import Message

from convlens.client import methods as m
from convlens.client._errors import InvalidRequest
from convlens.client._images import ArrayLike, Geometry, ImageInput, to_image
from convlens.client._operations.asking import choices_of, listed, target_of, wrapped
from convlens.client._operations.attacking import LabelInput
from convlens.client._operations.base import message_of
from convlens.client._tensors import tensor_of
from convlens.client._transport import Settings
from convlens.contract.rules import kind_of
from convlens.v1 import synthesis_pb2 as pb
from convlens.v1 import tensor_pb2

Synthesis: TypeAlias = (
    m.ClassModel
    | m.UnitMaximization
    | m.Inversion
    | m.Fooling
    | m.FoolingGradient
    | m.FoolingDirect
    | m.FoolingCppn
    | m.SynthesisMethod
)


# Ways to fool, which may be given without their Fooling.
ENCODINGS = {
    cast(Any, field.message_type).name: field.name
    for field in m.Fooling.DESCRIPTOR.oneofs_by_name["encoding"].fields
}


class SynthesisOptions(TypedDict, total=False):
    """What may be said beside the method; `synthesize` says what each means."""

    target: LabelInput | Sequence[LabelInput]
    image: ImageInput | None
    geometry: Geometry
    code: ArrayLike | None
    direction: ArrayLike | None
    canvas: int | tuple[int, int] | None
    checkpoint: bytes
    return_pixels: bool
    seed: int | None
    allow_partial: bool
    network: str


def synthesis_request(
    settings: Settings,
    method: Synthesis,
    *,
    target: LabelInput | Sequence[LabelInput] = (),
    image: ImageInput | None = None,
    geometry: Geometry = "network",
    code: ArrayLike | None = None,
    direction: ArrayLike | None = None,
    canvas: int | tuple[int, int] | None = None,
    checkpoint: bytes = b"",
    return_pixels: bool = False,
    seed: int | None = None,
    allow_partial: bool = False,
    network: str = "",
) -> pb.SynthesizeRequest:
    """The request; InvalidRequest where something is none."""
    asked = _copied(method)
    name = asked.WhichOneof("method")
    if name is None:
        known = ", ".join(choices_of(m.SynthesisMethod))
        raise InvalidRequest(f"method says nothing; it must be one of {known}.")
    inner = getattr(asked, name)
    _put(inner, "target", [target_of(each) for each in listed(target)])
    if image is not None:
        _put(inner, "image", [to_image(image, geometry, settings.max_message_bytes)])
    if code is not None:
        _put(inner, "code", [numbers_of("code", code)])
    if direction is not None:
        _put(inner, "direction", [numbers_of("direction", direction)])
    return message_of(
        pb.SynthesizeRequest,
        method=asked,
        canvas=None if canvas is None else _canvas(canvas),
        checkpoint=checkpoint,
        return_pixels=return_pixels,
        seed=seed,
        allow_partial=allow_partial,
        network=network,
    )


def _copied(method: object) -> m.SynthesisMethod:
    """The method as the contract's, which may be changed."""
    if isinstance(method, Message) and (kind := kind_of(method).name) in ENCODINGS:
        encoding: dict[str, Any] = {ENCODINGS[kind]: method}
        method = m.Fooling(**encoding)
    found = m.SynthesisMethod()
    found.CopyFrom(wrapped("method", m.SynthesisMethod, method, also=""))
    return found


def _put(method: Message, name: str, values: Sequence[Message]) -> None:
    """Gives a method what stands beside it; InvalidRequest where it takes no such thing."""
    kind = kind_of(method)
    if not values:
        return
    if f"{name}s" in kind.fields_by_name:
        _once(kind.name, name, bool(getattr(method, f"{name}s")))
        getattr(method, f"{name}s").extend(values)
        return
    field = kind.fields_by_name.get(name)
    if field is None:
        raise InvalidRequest(f"{name} is given, and {kind.name} takes none.")
    choice = field.containing_oneof
    there = method.WhichOneof(choice.name) if choice else method.HasField(name) and name
    _once(kind.name, name, bool(there), str(there))
    if len(values) > 1:
        raise InvalidRequest(f"{name} is a list of {len(values)}; {kind.name} takes one.")
    getattr(method, name).CopyFrom(values[0])


def _once(kind: str, name: str, there: bool, what: str = "") -> None:
    if there:
        words = f"{name} is given, and {kind} has {what or f'{name}s'} already; give one of them."
        raise InvalidRequest(words)


def numbers_of(name: str, given: ArrayLike) -> tensor_pb2.Tensor:
    """The numbers as float32; InvalidRequest where they are none."""
    try:
        array = np.asarray(given)
        if not np.issubdtype(array.dtype, np.number) or np.iscomplexobj(array):
            raise TypeError(f"its numbers are {array.dtype}")
        return tensor_of(np.ascontiguousarray(array, np.float32))
    except (TypeError, ValueError) as error:
        raise InvalidRequest(f"{name} must be an array of numbers: {error}.") from error


def _canvas(given: object) -> pb.Canvas:
    """(height, width), or the side of a square."""
    sides = [given, given] if isinstance(given, Integral) else given
    if not isinstance(sides, Sequence) or len(cast(Sequence[Any], sides)) != 2:
        raise InvalidRequest(
            f"canvas is {given!r}; it must be (height, width), or the side of a square."
        )
    height, width = cast(Sequence[Any], sides)
    return message_of(pb.Canvas, height=height, width=width)
