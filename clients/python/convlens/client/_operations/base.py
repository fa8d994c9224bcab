"""What an operation is: what a client sends, and what it makes of the answer."""

# Kept as written, so that help() shows names and not what they stand for.
from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from inspect import Parameter, Signature, signature
from math import inf
from numbers import Integral
from typing import Any, Generic, Literal, TypeAlias, TypeVar, cast

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from convlens.client._errors import ConvLensError, InvalidRequest
from convlens.client._transport import check_count, time_of

S = TypeVar("S")
T = TypeVar("T")
M = TypeVar("M", bound=Message)
F = TypeVar("F", bound=Callable[..., Any])

OnError: TypeAlias = Literal["raise", "return"]
# Requests of a stream that are under way at a time, unless the caller says otherwise.
IN_FLIGHT = 64
# What fields of whole numbers can hold.
LIMITS = {
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
}


@dataclass(frozen=True, slots=True)
class Operation(Generic[T]):
    """One call: the request that goes to `path`, and what the answer's bytes mean.

    `decode` also gets the id of the request, for the errors of single items. `missing` says what
    the server does not have where it says NOT_FOUND and no more.
    """

    path: str
    request: Message
    decode: Callable[[bytes, str], T]
    timeout: float | None
    missing: str = ""

    def __post_init__(self) -> None:
        time_of(self.timeout)


@dataclass(frozen=True, slots=True)
class Stream(Generic[S, T]):
    """Many requests on one call, answered in their order.

    `encode` makes the request of an item; without an item, one that the server refuses: it holds
    the place of an item that cannot be sent. `decode` gives the number of the request and its
    result or error.
    """

    path: str
    encode: Callable[[int, S | None], Message]
    decode: Callable[[bytes, str], tuple[int, T | ConvLensError]]
    on_error: OnError
    in_flight: int
    timeout: float | None

    def __post_init__(self) -> None:
        check_count("in_flight", self.in_flight)
        time_of(self.timeout)


@dataclass(frozen=True, slots=True)
class Survey(Generic[S, T]):
    """A plan and then any number of items by name, answered in any order by many messages.

    `encode` makes the entry of an item, and says what keeps it from being sent: then the entry is
    one that the server refuses. `pack` makes a request of entries, `most` of them together.

    `decode` makes a value of a message's bytes and the id of the request. Those of type `item` have
    the `id` of what they answer and its `error`; the one of type `end` is the last. `none` says
    what is wrong where there are no items; empty where nothing is.
    """

    path: str
    plan: Message
    encode: Callable[[S], tuple[Any, ConvLensError | None]]
    pack: Callable[[Sequence[Any]], Message]
    most: int
    decode: Callable[[bytes, str], T]
    item: type[Any]
    end: type[Any]
    none: str
    in_flight: int
    timeout: float | None

    def __post_init__(self) -> None:
        time_of(self.timeout)


@dataclass(frozen=True, slots=True)
class Watch(Generic[T]):
    """One request, answered by many messages; the one of type `end` is the last.

    `decode` makes a value of a message's bytes and the id of the request.
    """

    path: str
    request: Message
    decode: Callable[[bytes, str], T]
    end: type[Any]
    timeout: float | None

    def __post_init__(self) -> None:
        time_of(self.timeout)


@dataclass(frozen=True, slots=True)
class Last(Generic[T]):
    """What the last message of a watch says, made of it by `value`; the others are dropped."""

    watch: Watch[Any]
    value: Callable[[Any], T]


def with_options(parameters_of: Callable[..., object]) -> Callable[[F], F]:
    """Says what `**options` of an operation stands for: the keywords given here.

    help() shows them, and a TypeError for any other names the operation.
    """

    def decorated(build: F) -> F:
        own = list(signature(build).parameters.values())
        first = [p for p in own if p.kind is Parameter.POSITIONAL_OR_KEYWORD]
        last = [p for p in own if p.kind is Parameter.KEYWORD_ONLY]
        given = signature(parameters_of).parameters.values()
        options = [p for p in given if p.kind is Parameter.KEYWORD_ONLY]
        known = {p.name for p in (*first, *options, *last)}

        @wraps(build)
        def checked(*args: Any, **kwargs: Any) -> Any:
            for name in kwargs:
                if name not in known:
                    words = f"{build.__name__}() got an unexpected keyword argument {name!r}"
                    raise TypeError(words)
            return build(*args, **kwargs)

        vars(checked)["__signature__"] = Signature([*first, *options, *last])
        return cast(F, checked)

    return decorated


def message_of(kind: type[M], **values: Any) -> M:
    """A message, or InvalidRequest where a value is of a wrong type or does not fit."""
    try:
        return kind(**values)
    except (TypeError, ValueError) as error:
        words = next(_out_of_range(kind, values), f"The request is not valid: {error}.")
        raise InvalidRequest(words) from error


def _out_of_range(kind: type[Message], values: Mapping[str, object]) -> Iterator[str]:
    """What is wrong with whole numbers that their fields cannot hold."""
    fields = cast(Descriptor, kind.DESCRIPTOR).fields_by_name
    for name, value in values.items():
        least, most = LIMITS.get(fields[name].cpp_type, (-inf, inf))
        if isinstance(value, Integral) and not least <= int(value) <= most:
            yield f"{name} is {value}; must be at least {least} and at most {most}."
