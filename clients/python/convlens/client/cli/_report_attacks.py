"""Turns the verdict on one picture into what a report says of it."""

from collections.abc import Iterator, Sequence
from typing import Any

from google.protobuf.message import Message

from convlens.client import AttackVerdict, ClassScore
from convlens.client._attack_drawing import amplified
from convlens.client._attacks import STATUS_WORDS
from convlens.client._drawing import png_of
from convlens.client._outcomes import error_json
from convlens.client.cli._attack_calls import AttackOutcome
from convlens.client.cli._attack_output import UNSUCCESSFUL, about_flag, verdict_json
from convlens.client.cli._report_drawings import shown_png
from convlens.client.cli._report_model import Attacked
from convlens.client.cli._report_words import number, parameters, percent
from convlens.contract.comments import comment_of
from convlens.contract.rules import title_of

# Of the best classes, so many are shown before and after.
SHOWN = 5
NO_PICTURE = "It changed plain numbers, which are no picture; 'convlens attack' writes them."
NOT_ROBUST = "A failed attack does not show that the network is robust: a stronger one may succeed."


def attacked_of(method: Message, outcome: AttackOutcome) -> Attacked:
    """What one attack did to the picture."""
    found = outcome.verdict
    if found is None:
        return Attacked(title_of(method), outcome.error.message if outcome.error else "")
    if not found.png:
        return Attacked(title_of(method), NO_PICTURE)
    change, factor = amplified(found.change)
    return Attacked(
        title_of(method),
        status=STATUS_WORDS.get(found.status, found.status),
        succeeded=found.succeeded,
        words=" ".join(_words(found)),
        original=shown_png(found.original_png),
        change=shown_png(png_of(change)),
        factor=factor,
        adversarial=shown_png(found.png),
        before=found.before[:SHOWN],
        after=found.after[:SHOWN],
        own=found.original_class_index,
        flags=[about_flag(flag) for flag in found.flags],
        distances=list(_distances(found)),
        facts=[*parameters(method), *_facts(found)],
    )


def attack_json(title: str, outcome: AttackOutcome) -> dict[str, Any]:
    """What one attack did, or why it did not, as JSON."""
    if outcome.verdict is None:
        return {"method": title, "error": error_json(outcome.error) if outcome.error else None}
    seconds = round(outcome.seconds, 3)
    return {"method": title, **verdict_json(outcome.verdict, {}), "seconds": seconds}


def _words(found: AttackVerdict) -> Iterator[str]:
    """What the status means, and that of the picture in 8 bits where it is another one."""
    if found.succeeded:
        yield f"The network now answers {found.after[0].label}, not {found.before[0].label}."
        if found.rounded_status != "succeeded":
            yield comment_of(f"RoundedStatus.ROUNDED_STATUS_{found.rounded_status.upper()}")
    else:
        yield comment_of(f"AttackStatus.ATTACK_STATUS_{found.status.upper()}")
    if found.status in UNSUCCESSFUL:
        yield NOT_ROBUST


def _distances(found: AttackVerdict) -> Iterator[tuple[str, str, str]]:
    """How far the picture went: as computed, and in 8 bits."""
    far, rounded = found.distance, found.rounded_distance
    yield "answer", _best(found.after), _best(found.after_rounding)
    yield "L2", number(far.l2), number(rounded.l2)
    yield "L∞", _steps(far.linf), _steps(rounded.linf)
    yield "L1", number(far.l1), number(rounded.l1)
    yield "L0", f"{far.l0:,}", f"{rounded.l0:,}"
    yield "distortion", number(far.distortion), number(rounded.distortion)


def _best(scores: Sequence[ClassScore]) -> str:
    return f"{scores[0].label} {percent(scores[0].probability)}" if scores else "–"


def _steps(share: float) -> str:
    """A part of the pixel range, in the steps of 8 bits."""
    return f"{number(share * 255)}/255"


def _facts(found: AttackVerdict) -> Iterator[tuple[str, str]]:
    """What is told of a verdict to those who ask."""
    yield "steps taken", f"{found.steps:,}"
    yield "forward passes", f"{found.cost.forward_passes:,}"
    yield "backward passes", f"{found.cost.backward_passes:,}"
    if found.succeeded_by:
        yield "succeeded by", found.succeeded_by
