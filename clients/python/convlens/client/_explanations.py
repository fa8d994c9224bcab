"""The explanations of an image, as the SDK returns them, and what a stream of them tells."""

import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import SupportsIndex, TypeAlias, cast

from google.protobuf.message import Message

from convlens.client._attributions import Attribution, attribution
from convlens.client._errors import ConvLensError, Internal, from_status
from convlens.client._results import Cost, Receipt, cost_of, plain, receipt_of
from convlens.client.methods import Rank
from convlens.v1 import explanation_pb2 as pb
from convlens.v1 import target_pb2

#: A method by its name, its title or its class: "grad_cam", "Grad-CAM", GradCam.
MethodKey: TypeAlias = str | type[Message]
#: A class by its index, by its label, or as it was asked for.
TargetKey: TypeAlias = int | str | Rank | target_pb2.Target


class Attributions:
    """The answers of one image: method by method, and for each method target by target.

    `attributions[0]` is the first, `attributions["saliency"]`, `attributions["Grad-CAM"]` and
    `attributions[GradCam]` the only one of that method, `attributions["saliency", "cat"]` that for
    one of several targets.
    """

    def __init__(self, entries: Sequence[Attribution]) -> None:
        self._entries = tuple(entries)

    def __getitem__(
        self, key: SupportsIndex | MethodKey | tuple[MethodKey, TargetKey]
    ) -> Attribution:
        if isinstance(key, str | type | tuple):
            method, *target = key if isinstance(key, tuple) else (key,)
            return self._only(key, self.of(method, *target))
        return self._entries[operator.index(key)]

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Attribution]:
        return iter(self._entries)

    def __repr__(self) -> str:
        return f"[{', '.join(map(repr, self))}]"

    def of(self, method: MethodKey, target: TargetKey | None = None) -> tuple[Attribution, ...]:
        """All answers of a method, or those for one target."""
        return tuple(
            entry
            for entry in self
            if _is_method(entry, method) and (target is None or _is_target(entry, target))
        )

    def _only(self, key: object, found: Sequence[Attribution]) -> Attribution:
        if len(found) == 1:
            return found[0]
        there = ", ".join(map(repr, found or self))
        if found:
            raise KeyError(
                f"{_said(key)} has {len(found)} answers: {there}; name the target too, or use of()"
            )
        raise KeyError(f"{_said(key)} has no answer here; there are: {there or 'none'}")


@dataclass(frozen=True, slots=True, eq=False)
class Explanation:
    """What in one image the network's answers rest on; an index goes to `attributions`."""

    attributions: Attributions
    #: What the whole call was expected to ask of the network at most; the receipt has what it did.
    estimated_cost: Cost
    receipt: Receipt = field(repr=False)

    def __getitem__(
        self, key: SupportsIndex | MethodKey | tuple[MethodKey, TargetKey]
    ) -> Attribution:
        return self.attributions[key]

    def __len__(self) -> int:
        return len(self.attributions)

    def __iter__(self) -> Iterator[Attribution]:
        return iter(self.attributions)

    def __repr__(self) -> str:
        of = f"{self.receipt.network}@{self.receipt.network_version}"
        return f"<Explanation of {of}: {', '.join(map(repr, self))}>"


@dataclass(frozen=True, slots=True)
class ExplainProgress:
    """How far a stream has come: attributions finished, and what was asked of the network."""

    attributions_done: int
    attributions: int
    cost: Cost
    #: What the request is expected to ask at most.
    estimated_cost: Cost


@dataclass(frozen=True, slots=True)
class ExplainItem:
    """An answer of a stream, or a better version of one; the last of each `is_final`.

    `attribution` is None where the whole image has no answer, and `error` says why.
    """

    image_index: int
    is_final: bool
    attribution: Attribution | None
    error: ConvLensError | None


@dataclass(frozen=True, slots=True)
class ExplainDone:
    """The end of a stream."""

    receipt: Receipt = field(repr=False)
    estimated_cost: Cost


ExplainEvent: TypeAlias = ExplainProgress | ExplainItem | ExplainDone


def explanation(
    message: pb.Explanation, response: pb.ExplainResponse, asked: pb.ExplainRequest, request_id: str
) -> Explanation:
    """One image's explanations, with the receipt of the call that brought them."""
    receipt = receipt_of(response.receipt)
    entries = [attribution(entry, asked, receipt, request_id) for entry in message.attributions]
    return Explanation(Attributions(entries), cost_of(response.estimated_cost), receipt)


def explain_event(
    message: pb.ExplainStreamResponse, asked: pb.ExplainRequest, request_id: str
) -> ExplainEvent:
    """What one message of a stream tells."""
    match message.WhichOneof("event"):
        case "progress":
            return plain(
                ExplainProgress,
                message.progress,
                cost=cost_of(message.progress.cost),
                estimated_cost=cost_of(message.progress.estimated_cost),
            )
        case "item":
            return _item(message.item, asked, request_id)
        case "done":
            cost = cost_of(message.done.estimated_cost)
            return ExplainDone(receipt_of(message.done.receipt), cost)
        case _:
            raise Internal("The server sent a message of a stream that tells nothing.")


def _item(message: pb.ExplainItem, asked: pb.ExplainRequest, request_id: str) -> ExplainItem:
    answered = message.WhichOneof("outcome") == "result"
    if message.image_index >= len(asked.images):
        raise Internal("The server answered an image that was not sent.")
    return ExplainItem(
        message.image_index,
        message.is_final,
        attribution(message.result, asked, None, request_id) if answered else None,
        None if answered else from_status(message.error, request_id=request_id),
    )


def _is_method(entry: Attribution, key: MethodKey) -> bool:
    if isinstance(key, str):
        return _squeezed(key) in (_squeezed(entry.name), _squeezed(entry.method))
    return isinstance(entry.parameters, key)


def _squeezed(name: str) -> str:
    """Without what is easily mistaken: "Grad-CAM", "grad_cam" and "GradCam" are one."""
    return "".join(filter(str.isalnum, name)).lower()


def _is_target(entry: Attribution, key: TargetKey) -> bool:
    asked, found = entry.asked_target, entry.target
    if isinstance(key, target_pb2.Target):
        return asked == key
    if isinstance(key, Rank):
        prediction = asked is None and found is not None and key.rank == 1
        return prediction or asked == target_pb2.Target(rank=key.rank)
    if isinstance(key, str):
        return (found is not None and found.label == key) or asked == target_pb2.Target(label=key)
    index = operator.index(key)
    named = found is not None and found.index == index
    return named or asked == target_pb2.Target(class_index=index)


def _said(key: object) -> str:
    parts = cast(tuple[object, ...], key) if isinstance(key, tuple) else (key,)
    names = (part.__name__ if isinstance(part, type) else repr(part) for part in parts)
    return ", ".join(names)
