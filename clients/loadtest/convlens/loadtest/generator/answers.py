"""Finds what failed within an answer."""

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, TypeAlias

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message
from google.rpc.status_pb2 import Status

from convlens.contract.rules import kind_of

Finder: TypeAlias = Callable[[Any], Iterator[Status]]
STATUS = kind_of(Status()).full_name


@cache
def finder(kind: type[Message]) -> Finder:
    """What yields every status within a message of this kind.

    Images, methods, measures and requests of a stream fail by themselves: each has a status in the
    place of its answer.
    """
    return _finder(kind_of(kind()), ())


def _finder(kind: Descriptor, above: tuple[Descriptor, ...]) -> Finder:
    steps: list[tuple[str, bool, Finder]] = []
    for field in kind.fields:
        inner = field.message_type
        if inner is None or inner in above:
            continue
        if inner.full_name == STATUS:
            steps.append((field.name, field.is_repeated, _itself))
        elif _has_status(inner, (*above, kind)):
            steps.append((field.name, field.is_repeated, _finder(inner, (*above, kind))))

    def found(message: Any) -> Iterator[Status]:
        for name, is_repeated, below in steps:
            if is_repeated:
                for each in getattr(message, name):
                    yield from below(each)
            elif message.HasField(name):
                yield from below(getattr(message, name))

    return found


def _itself(status: Status) -> Iterator[Status]:
    yield status


def _has_status(kind: Descriptor, above: tuple[Descriptor, ...]) -> bool:
    inner = [field.message_type for field in kind.fields if field.message_type is not None]
    return kind.full_name == STATUS or any(
        _has_status(each, (*above, kind)) for each in inner if each not in above
    )
