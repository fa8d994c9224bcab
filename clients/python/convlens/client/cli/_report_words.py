"""How a report writes numbers and parameters."""

import math
from collections.abc import Iterator
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from convlens.client import _text
from convlens.client.cli._specs import choices, short
from convlens.contract import with_defaults
from convlens.contract.rules import kind_of

SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def number(value: float) -> str:
    """Three digits of a number, as people write it: "−0.0123", "1,230", "4.5×10⁻⁷"."""
    if not math.isfinite(value):
        return str(value).replace("-", "−")
    size = abs(value)
    if size and not 1e-3 <= size < 1e6:
        mantissa, exponent = f"{value:.2e}".split("e")
        text = f"{_trimmed(mantissa)}×10{str(int(exponent)).translate(SUPERSCRIPTS)}"
    else:
        digits = 0 if size >= 100 else 2 - math.floor(math.log10(size)) if size else 0
        text = _trimmed(f"{value:,.{digits}f}")
    return text.replace("-", "−")


def percent(share: float | None) -> str:
    """A share of 1: "99.7 %", "< 0.1 %" of what is not nothing, "–" where it is not known."""
    if share is None:
        return "–"
    return "< 0.1 %" if 0 < share < 0.0005 else _text.percent(share, 1)


def parameters(asked: Message) -> Iterator[tuple[str, str]]:
    """The parameters with all defaults, as the command writes them."""
    filled: Any = with_defaults(asked)
    entry: FieldDescriptor
    for entry in kind_of(filled).fields:
        if entry.name == "layer" or (entry.has_presence and not filled.HasField(entry.name)):
            continue
        yield short(entry.name), parameter(entry, getattr(filled, entry.name))


def parameter(field: FieldDescriptor, value: Any) -> str:
    """The value of a parameter, as the command takes it."""
    if field.message_type is not None:
        return str(value).strip().replace("\n", ", ") if field.message_type.fields else ""
    if field.enum_type is not None:
        names = {number: name for name, number in choices(field).items()}
        return names.get(value, str(value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return number(value) if isinstance(value, float) else str(value)


def _trimmed(digits: str) -> str:
    """Without zeros behind the point that say nothing."""
    return digits.rstrip("0").rstrip(".") if "." in digits else digits
