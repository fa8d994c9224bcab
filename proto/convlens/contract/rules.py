"""Reads the field options of convlens.v1 and fills in defaults."""

import hashlib
from collections.abc import Iterator
from functools import cache
from typing import TypeAlias, TypeVar, cast

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from convlens.v1 import options_pb2

M = TypeVar("M", bound=Message)
Value: TypeAlias = bool | int | float | str | bytes

INTEGERS = frozenset(
    {
        FieldDescriptor.CPPTYPE_INT32,
        FieldDescriptor.CPPTYPE_INT64,
        FieldDescriptor.CPPTYPE_UINT32,
        FieldDescriptor.CPPTYPE_UINT64,
    }
)
FLOATS = frozenset({FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE})


def kind_of(message: Message) -> Descriptor:
    """The message's type; its class has the implementation's type, which stubs do not know."""
    return cast(Descriptor, message.DESCRIPTOR)


def title_of(message: Message) -> str:
    """What people call a method or a measure: "Grad-CAM"."""
    kind = kind_of(message)
    return kind.GetOptions().Extensions[options_pb2.method].title or kind.name


def rule_of(field: FieldDescriptor) -> options_pb2.FieldRule:
    """The field's rule; an empty one where it has none."""
    return field.GetOptions().Extensions[options_pb2.rule]


def default_of(field: FieldDescriptor) -> Value | None:
    """The value that stands in for an unset field, or None where the rule names none."""
    text = rule_of(field).default
    if not text:
        return None
    kind = field.cpp_type
    if field.enum_type is not None:
        return field.enum_type.values_by_name[text].number
    if kind == FieldDescriptor.CPPTYPE_BOOL:
        return {"true": True, "false": False}[text]
    if kind in INTEGERS:
        return int(text)
    return float(text) if kind in FLOATS else text


def is_message(field: FieldDescriptor) -> bool:
    """Whether the field holds messages."""
    return field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE


def is_unset(message: Message, field: FieldDescriptor) -> bool:
    """Whether the caller said nothing: no presence, or an enum's zero value."""
    if field.has_presence:
        return not message.HasField(field.name)
    return field.cpp_type == FieldDescriptor.CPPTYPE_ENUM and getattr(message, field.name) == 0


def children(message: Message, field: FieldDescriptor) -> Iterator[tuple[str, Message]]:
    """The messages that a message field holds, each with its name in a field path."""
    if field.is_repeated:
        for index, entry in enumerate(getattr(message, field.name)):
            yield f"{field.name}[{index}]", entry
    elif message.HasField(field.name):
        yield field.name, getattr(message, field.name)


@cache
def _defaults(kind: Descriptor) -> tuple[tuple[FieldDescriptor, Value], ...]:
    pairs = ((field, default_of(field)) for field in kind.fields)
    return tuple((field, value) for field, value in pairs if value is not None)


@cache
def message_fields(kind: Descriptor) -> tuple[FieldDescriptor, ...]:
    """The fields of a message type that hold messages."""
    return tuple(field for field in kind.fields if is_message(field))


def with_defaults(message: M) -> M:
    """A copy with every unset field that has a default set to it, in all messages below too.

    A field of a oneof has no default: another one may have been chosen.
    """
    copy = type(message)()
    copy.CopyFrom(message)
    _fill(copy)
    return copy


def _fill(message: Message) -> None:
    for field, value in _defaults(kind_of(message)):
        if is_unset(message, field):
            setattr(message, field.name, value)
    for field in message_fields(kind_of(message)):
        for _, entry in children(message, field):
            _fill(entry)


def digest(*parts: bytes) -> str:
    """BLAKE2b-256 of the parts, each with its length before it, in hexadecimal."""
    state = hashlib.blake2b(digest_size=32)
    for part in parts:
        state.update(len(part).to_bytes(8, "little"))
        state.update(part)
    return state.hexdigest()
