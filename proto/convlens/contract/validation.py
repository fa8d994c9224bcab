"""Checks messages against the rules in the protos, and reports every violation at once."""

from collections.abc import Iterator, Sequence
from functools import cache

from google.protobuf.descriptor import (
    Descriptor,
    EnumDescriptor,
    FieldDescriptor,
    OneofDescriptor,
)
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest

from convlens.contract.errors import ErrorReason, Failure
from convlens.contract.rules import (
    children,
    is_message,
    is_unset,
    kind_of,
    message_fields,
    rule_of,
)
from convlens.v1 import options_pb2

Violation = BadRequest.FieldViolation
NUMBERS = frozenset(
    {
        FieldDescriptor.CPPTYPE_INT32,
        FieldDescriptor.CPPTYPE_INT64,
        FieldDescriptor.CPPTYPE_UINT32,
        FieldDescriptor.CPPTYPE_UINT64,
        FieldDescriptor.CPPTYPE_FLOAT,
        FieldDescriptor.CPPTYPE_DOUBLE,
    }
)


def violations(message: Message, path: str = "") -> list[Violation]:
    """Every way in which `message` breaks its rules; an empty list where it keeps them.

    Entries of a field that is judged per item are left out: check each by a call of its own.
    `path` stands before the name of every field.
    """
    return list(_walk(message, path))


def check(message: Message, path: str = "") -> None:
    """Raises Failure INVALID_REQUEST with every violation, where there is any."""
    if broken := violations(message, path):
        raise invalid(broken)


def invalid(broken: Sequence[Violation]) -> Failure:
    """What a caller is told who broke the rules."""
    return Failure(ErrorReason.ERROR_REASON_INVALID_REQUEST, violations=broken)


@cache
def _ruled(kind: Descriptor) -> tuple[tuple[FieldDescriptor, options_pb2.FieldRule], ...]:
    pairs = ((field, rule_of(field)) for field in kind.fields)
    return tuple((field, rule) for field, rule in pairs if rule.ByteSize())


@cache
def _required_oneofs(kind: Descriptor) -> tuple[OneofDescriptor, ...]:
    required = options_pb2.oneof_required
    return tuple(oneof for oneof in kind.oneofs if oneof.GetOptions().Extensions[required])


@cache
def _enums(kind: Descriptor) -> tuple[tuple[FieldDescriptor, EnumDescriptor], ...]:
    single = (field for field in kind.fields if not field.is_repeated)
    return tuple((field, field.enum_type) for field in single if field.enum_type is not None)


def _walk(message: Message, path: str) -> Iterator[Violation]:
    kind = kind_of(message)
    for oneof in _required_oneofs(kind):
        if message.WhichOneof(oneof.name) is None:
            choices = ", ".join(field.name for field in oneof.fields)
            yield Violation(field=path + oneof.name, description=f"must be one of: {choices}")
    for field, rule in _ruled(kind):
        if text := _broken(message, field, rule):
            yield Violation(field=path + field.name, description=text)
        if field.is_repeated and field.cpp_type in NUMBERS:
            for index, value in enumerate(getattr(message, field.name)):
                if text := _wrong_number(float(value), rule):
                    yield Violation(field=f"{path}{field.name}[{index}]", description=text)
        if field.is_repeated and field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
            for index, value in enumerate(getattr(message, field.name)):
                if text := _wrong_length(value, rule):
                    yield Violation(field=f"{path}{field.name}[{index}]", description=text)
    yield from _unknown_enums(message, path)
    for field in message_fields(kind):
        if rule_of(field).per_item:
            continue
        for name, entry in children(message, field):
            yield from _walk(entry, f"{path}{name}.")


def _unknown_enums(message: Message, path: str) -> Iterator[Violation]:
    for field, kind in _enums(kind_of(message)):
        value = getattr(message, field.name)
        if value not in kind.values_by_number:
            names = ", ".join(name.name for name in kind.values if name.number)
            yield Violation(
                field=path + field.name, description=f"is {value}; must be one of: {names}"
            )


def _broken(message: Message, field: FieldDescriptor, rule: options_pb2.FieldRule) -> str:
    """What is wrong with the field, or nothing."""
    if field.is_repeated:
        return _wrong_count(len(getattr(message, field.name)), rule)
    if is_unset(message, field):
        return "must be set" if rule.required else ""
    if is_message(field):
        return ""
    value = getattr(message, field.name)
    if isinstance(value, str | bytes):
        return _wrong_length(value, rule)
    if rule.allowed and field.enum_type is not None:
        return _wrong_choice(value, field.enum_type, rule)
    return _wrong_number(float(value), rule)


def _wrong_count(count: int, rule: options_pb2.FieldRule) -> str:
    if rule.HasField("min_items") and count < rule.min_items:
        return f"has {count} entries; must have at least {rule.min_items}"
    if rule.HasField("max_items") and count > rule.max_items:
        return f"has {count} entries; must have at most {rule.max_items}"
    return ""


def _wrong_length(value: str | bytes, rule: options_pb2.FieldRule) -> str:
    if rule.required and not value:
        return "must not be empty"
    if rule.HasField("max_length") and len(value) > rule.max_length:
        return f"is {len(value)} long; must be at most {rule.max_length}"
    return ""


def _wrong_choice(value: int, kind: EnumDescriptor, rule: options_pb2.FieldRule) -> str:
    found = kind.values_by_number.get(value)
    # What no value has is told of with all the others.
    if found is None or found.name in rule.allowed:
        return ""
    return f"is {found.name}; must be one of: {', '.join(rule.allowed)}"


def _wrong_number(value: float, rule: options_pb2.FieldRule) -> str:
    # Each check is what must hold, so that NaN, which compares false with everything, is refused.
    inside = (
        (not rule.HasField("min") or value >= rule.min)
        and (not rule.HasField("max") or value <= rule.max)
        and (not rule.HasField("greater_than") or value > rule.greater_than)
        and (not rule.HasField("less_than") or value < rule.less_than)
    )
    return "" if inside else f"is {_digits(value)}; must be {range_text(rule)}"


def range_text(rule: options_pb2.FieldRule) -> str:
    """The allowed range in words, "at least 1 and at most 64 pixels"; empty where there is none."""
    parts = [
        f"at least {_digits(rule.min)}" if rule.HasField("min") else "",
        f"greater than {_digits(rule.greater_than)}" if rule.HasField("greater_than") else "",
        f"at most {_digits(rule.max)}" if rule.HasField("max") else "",
        f"less than {_digits(rule.less_than)}" if rule.HasField("less_than") else "",
    ]
    words = " and ".join(part for part in parts if part)
    return f"{words} {rule.unit}".strip() if words else ""


def _digits(number: float) -> str:
    """As people write it: whole numbers in full."""
    is_whole = number.is_integer() and abs(number) < _LONG
    return str(int(number)) if is_whole else f"{number:g}"


_LONG = 1e15
