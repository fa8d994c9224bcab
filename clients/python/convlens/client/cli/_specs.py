"""Reads NAME:PARAM=VALUE,... of the command line into messages, with the contract's own names.

Names and values are written short, with dashes: "occlusion:window=32,fill=blur" is an Occlusion
with FILL_BLUR. What the contract does not know is answered with what comes near, and what there is.
"""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import click
from click.shell_completion import CompletionItem
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from convlens.client import ConvLensError
from convlens.client._images import to_image
from convlens.contract import rule_of, violations
from convlens.contract.rules import FLOATS, INTEGERS
from convlens.contract.validation import range_text

if TYPE_CHECKING:
    ParamType: TypeAlias = click.ParamType[Message]
    NumbersType: TypeAlias = click.ParamType[tuple[float, ...]]
else:
    # They have no type parameters before click 8.4.
    ParamType = NumbersType = click.ParamType

# A field, and the message that has it.
Place: TypeAlias = tuple[Message, FieldDescriptor]

TRUTHS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


def short(name: str) -> str:
    """A name of the contract as the command writes it: "grad_cam" is "grad-cam"."""
    return name.lower().replace("_", "-")


def choices(field: FieldDescriptor) -> dict[str, int]:
    """The values of an enum that a field may hold, by their short names."""
    enum = cast(EnumDescriptor, field.enum_type)
    prefix = enum.values[0].name.removesuffix("UNSPECIFIED")
    allowed = rule_of(field).allowed
    return {
        short(value.name.removeprefix(prefix)): value.number
        for value in enum.values[1:]
        if not allowed or value.name in allowed
    }


def form_of(kind: Descriptor) -> str:
    """How a message is written that is the value of a parameter: ROW/COLUMN."""
    return "FILE" if kind.name == "Image" else "/".join(f.name.upper() for f in kind.fields)


class Parameters(ParamType):
    """PARAM=VALUE,... of one kind of message."""

    name = "parameters"

    def __init__(self, kind: type[Message]) -> None:
        self._kind = kind

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Message:
        """The message."""
        if isinstance(value, Message):
            return value
        try:
            return filled(self._kind, value)
        except ValueError as error:
            self.fail(f"{error}.", param, ctx)


class Choice(ParamType):
    """NAME[:PARAM=VALUE,...] of a message that is one of several; `what` they are called."""

    name = "choice"

    def __init__(self, what: str, kind: type[Message]) -> None:
        self._what = what
        self._fields = {short(field.name): field for field in cast(Any, kind.DESCRIPTOR).fields}

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Message:
        """The message that the name stands for, with its parameters."""
        if isinstance(value, Message):
            return value
        name, colon, parameters = value.partition(":")
        try:
            field = self._fields[known(self._what, name, self._fields)]
            if colon and not parameters.strip(" ,"):
                raise ValueError("nothing is behind the colon; write NAME or NAME:PARAM=VALUE,...")
            return filled(GetMessageClass(field.message_type), parameters)
        except ValueError as error:
            self.fail(f"{value!r}: {error}.", param, ctx)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """The names that begin so."""
        return [CompletionItem(name) for name in self._fields if name.startswith(incomplete)]


class Numbers(NumbersType):
    """X,X,... of numbers, which may be fractions: 1/255,2/255; of whole ones with `kind` int."""

    name = "numbers"

    def __init__(self, kind: type[int] | type[float] = float) -> None:
        self._kind = kind

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[Any, ...]:
        """The numbers, in their order."""
        if not isinstance(value, str):
            return value
        try:
            what = "a whole number" if self._kind is int else "a number"
            return tuple(_number(what, each.strip(), self._kind) for each in value.split(","))
        except ValueError as error:
            self.fail(f"{value!r}: {error}.", param, ctx)


def filled(kind: type[Message], text: str) -> Message:
    """The message with the parameters of PARAM=VALUE,...; ValueError says what is wrong."""
    descriptor = cast(Descriptor, kind.DESCRIPTOR)
    message = kind()
    fields = {short(field.name): (message, field) for field in descriptor.fields}
    assign(text, fields, f"parameter of {descriptor.name}")
    if problems := violations(message):
        words = "; ".join(f"{short(item.field)} {item.description}" for item in problems)
        raise ValueError(words)
    return message


def assign(text: str, fields: Mapping[str, Place], what: str) -> None:
    """Sets fields of messages, by their short names, to the values of PARAM=VALUE,...

    Raises ValueError for what is no value, or no name of `what` there is.
    """
    given = set[str]()
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, separator, value = part.partition("=")
        name = known(what, name, fields)
        if name in given:
            raise ValueError(f"{name} is there twice; give it once")
        given.add(name)
        message, field = fields[name]
        _set(message, field, value.strip() if separator else None)


def known(what: str, name: str, names: Iterable[str]) -> str:
    """The name as it is written, or ValueError with those that come near, and all of them."""
    squeezed = {_squeezed(each): each for each in names}
    if (found := squeezed.get(_squeezed(name))) is not None:
        return found
    near = get_close_matches(_squeezed(name), squeezed, 3, 0.6)
    advice = f"; did you mean {' or '.join(squeezed[each] for each in near)}?" if near else "."
    raise ValueError(
        f"there is no {what} {name!r}{advice} There are: {', '.join(squeezed.values()) or 'none'}"
    )


def _squeezed(name: str) -> str:
    return "".join(filter(str.isalnum, name)).lower()


def _set(message: Message, field: FieldDescriptor, text: str | None) -> None:
    name = short(field.name)
    if text is None and field.cpp_type != FieldDescriptor.CPPTYPE_BOOL:
        raise ValueError(f"{name} has no value; write {name}=VALUE")
    if field.message_type is not None:
        getattr(message, field.name).CopyFrom(_nested(field.message_type, name, text or ""))
        return
    value = _value(field, text)
    try:
        setattr(message, field.name, value)
    except (OverflowError, ValueError) as error:
        allowed = range_text(rule_of(field)) or "a number that fits"
        raise ValueError(f"{name} is {text}; must be {allowed}") from error


def _value(field: FieldDescriptor, text: str | None) -> object:
    """The value of a field that holds no message."""
    name, kind = short(field.name), field.cpp_type
    if field.enum_type is not None:
        values = choices(field)
        return values[known(f"value of {name}", text or "", values)]
    if kind == FieldDescriptor.CPPTYPE_BOOL:
        return _one_of(name, text or "true", TRUTHS)
    if kind in INTEGERS or kind in FLOATS:
        return _number(name, text or "", int if kind in INTEGERS else float)
    return text


def _one_of(name: str, text: str, values: Mapping[str, bool]) -> bool:
    if text.lower() not in values:
        raise ValueError(f"{name} is {text!r}; it must be true or false")
    return values[text.lower()]


def _number(name: str, text: str, kind: type[int] | type[float]) -> float:
    """A number; where it need not be whole, also a fraction: 8/255."""
    above, slash, below = text.partition("/")
    try:
        return kind(above) / kind(below) if slash and kind is float else kind(text)
    except (ValueError, ZeroDivisionError):
        what = "a whole number" if kind is int else "a number"
        raise ValueError(f"{name} is {text!r}; it must be {what}") from None


def _nested(kind: Descriptor, name: str, text: str) -> Message:
    """An image of a file, or a message of a few numbers: ROW/COLUMN."""
    if kind.name == "Image":
        try:
            return to_image(Path(text))
        except ConvLensError as error:
            raise ValueError(f"{name}: {error.message}".rstrip(".")) from error
    numbers = text.split("/")
    if len(numbers) != len(kind.fields):
        raise ValueError(f"{name} is {text!r}; it must be {form_of(kind)}")
    values = zip(kind.fields, numbers, strict=True)
    fields = {field.name: _value(field, number) for field, number in values}
    return GetMessageClass(kind)(**fields)
