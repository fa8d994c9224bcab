"""Attacks pictures call by call, through AttackStream."""

import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from convlens.client import (
    AttackDone,
    AttackItem,
    AttackProgress,
    AttackVerdict,
    Client,
    ConvLensError,
    InvalidRequest,
)
from convlens.client._outcomes import end_if_of_all
from convlens.client.cli._calls import Picture, Show, merged


@dataclass(frozen=True, slots=True)
class AttackOutcome:
    """What became of one picture, and the seconds after which it was there."""

    picture: Picture
    verdict: AttackVerdict | None
    seconds: float
    error: ConvLensError | None


@dataclass(frozen=True, slots=True)
class AttackCall:
    """A call that is over; `done` is None where there was no picture to send."""

    outcomes: Sequence[AttackOutcome]
    done: AttackDone | None


def attacked(
    client: Client,
    pictures: Sequence[Picture],
    method: Any,
    options: Mapping[str, Any],
    show: Show,
) -> AttackCall:
    """One call for all pictures that can be read; `options` are those of attack_stream."""
    sent = [picture for picture in pictures if picture.error is None]
    received: dict[int, AttackOutcome] = {}
    done, started = None, time.monotonic()
    if sent:
        given: dict[str, Any] = {
            **options,
            "true_classes": true_classes_of(sent),
            "on_error": "return",
        }
        data = [picture.data for picture in sent]
        with closing(client.attack_stream(data, method, **given)) as events:
            for event in events:
                if isinstance(event, AttackProgress):
                    show(event)
                elif isinstance(event, AttackDone):
                    done = event
                elif event.is_final:
                    seconds = time.monotonic() - started
                    received[event.image_index] = _outcome(sent, event, seconds)
    in_order = [received[index] for index in sorted(received)]
    return AttackCall(merged(pictures, in_order, _unread), done)


def true_classes_of(pictures: Sequence[Picture]) -> list[Any]:
    """The true classes of the pictures; none where none was given."""
    return [picture.truth for picture in pictures if picture.truth is not None]


def _outcome(sent: Sequence[Picture], item: AttackItem, seconds: float) -> AttackOutcome:
    # A request that does not fit one picture may fit others: it may be of the target's class.
    if not isinstance(item.error, InvalidRequest):
        end_if_of_all(item.error)
    return AttackOutcome(sent[item.image_index], item.verdict, seconds, item.error)


def _unread(picture: Picture) -> AttackOutcome:
    return AttackOutcome(picture, None, 0, picture.error)
