"""Ways to spoil a message or a file, all drawn from one source of randomness."""

import math
from collections.abc import Iterator
from random import Random
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from convlens.contract.rules import children, is_message, kind_of, message_fields
from tests.faults.seeds import LAYER, filled

MOST_BYTES = 2**22
# A field that no message of the contract has, of each type of the wire.
UNKNOWN = (
    b"\xf8\xff\x03\x01",
    b"\xfa\xff\x03\x03abc",
    b"\xfd\xff\x03abcd",
    b"\xf9\xff\x03abcdefgh",
)
TEXTS = (
    "",
    "x",
    "\0",
    "shapes",
    "shapes@1",
    "@",
    "cnn-code",
    "logits",
    LAYER,
    "star",
    "../../../etc/passwd",
    "%s%n{0}{network}",
    "'; DROP TABLE networks; --",
    "\u202ereversed",
    "a\r\nx-request-id: b",
    "é" * 200,
    "🦊" * 200,
    "🦊" * 2_000,
    "x" * 100_000,
)
FLOATS = (
    *(0.0, -0.0, 1.0, -1.0, 0.5, 2.0, 255.0, 1e-300, 5e-324, 1e300),
    *(math.inf, -math.inf, math.nan, math.nextafter(1, 2), 3.5e38),
)
LIMITS = {
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_ENUM: (-1, 99),
}
COUNTS = (1, 2, 15, 16, 17, 64, 65, 257, 3_000)


def spoil(message: Message, random: Random) -> None:
    """Changes one field of a message or of one inside it to something that it should not be."""
    holder = random.choice([*_everything(message)])
    fields = kind_of(holder).fields
    if not fields or random.random() < 0.05:
        holder.MergeFromString(random.choice(UNKNOWN))
        return
    field = random.choice(fields)
    if random.random() < 0.15:
        holder.ClearField(field.name)
    elif field.is_repeated:
        _spoil_list(getattr(holder, field.name), field, random)
    elif is_message(field):
        inner: Any = getattr(holder, field.name)
        inner.CopyFrom(_any_message(field, random))
        inner.SetInParent()
    else:
        setattr(holder, field.name, _any_value(field, random))


def _everything(message: Message) -> Iterator[Message]:
    yield message
    for field in message_fields(kind_of(message)):
        for _, inner in children(message, field):
            yield from _everything(inner)


def _spoil_list(held: Any, field: FieldDescriptor, random: Random) -> None:
    """Far too many entries, of what is there or of something else."""
    make = _any_message if is_message(field) else _any_value
    entry = held[0] if len(held) and random.random() < 0.5 else make(field, random)
    count = random.choice(COUNTS)
    size = entry.ByteSize() if isinstance(entry, Message) else len(str(entry))
    held.extend([entry] * min(count, 1 + MOST_BYTES // (size + 1)))


def _any_message(field: FieldDescriptor, random: Random) -> Message:
    assert field.message_type
    message = filled(field.message_type, random.randrange(12))
    if random.random() < 0.2:
        message.Clear()
    return message


def _any_value(field: FieldDescriptor, random: Random) -> Any:
    kind = field.cpp_type
    if kind == FieldDescriptor.CPPTYPE_STRING:
        if field.type == FieldDescriptor.TYPE_BYTES:
            return random.choice((b"", b"\0" * 1_000, random.randbytes(40)))
        return random.choice(TEXTS)
    if kind == FieldDescriptor.CPPTYPE_BOOL:
        return random.random() < 0.5
    if kind in (FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE):
        return random.choice(FLOATS)
    low, high = LIMITS[kind]
    near = random.choice((low, low + 1, high - 1, high, 0, 1, 2, 3, 7, 1_000, 10_001))
    return min(max(near, low), high)


def spoil_bytes(data: bytes, other: bytes, random: Random) -> bytes:
    """The bytes with one change: flipped, cut, doubled, torn out, or continued by other bytes."""
    if not data:
        return random.randbytes(random.randrange(1, 20))
    at = random.randrange(len(data))
    # Most that can go wrong goes wrong in the first bytes, and in short pieces.
    at = min(at, random.randrange(1, 100)) if random.random() < 0.5 else at
    end = min(len(data), at + random.choice((1, 2, 4, 16, len(data))))
    match random.randrange(8):
        case 0:
            return data[:at] + bytes([data[at] ^ 1 << random.randrange(8)]) + data[at + 1 :]
        case 1:
            return data[:at]
        case 2:
            return data[:end] + data[at:end] * random.choice((1, 2, 100)) + data[end:]
        case 3:
            return data[:at] + data[end:]
        case 4:
            return data[:at] + other[min(at, len(other)) :]
        case 5:
            return data[:at] + random.randbytes(end - at) + data[end:]
        case 6:
            # The largest numbers that a varint and that four bytes can hold.
            large = random.choice(
                (b"\xff" * 9 + b"\1", b"\xff" * 4, b"\x7f\xff\xff\xff", b"\0" * 4)
            )
            return data[:at] + large + data[at + random.choice((0, len(large))) :]
        case _:
            return data[:at] + bytes([random.randrange(256)]) + data[at + 1 :]
