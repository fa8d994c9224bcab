"""Compares answers with what a receipt has of them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from convlens.client import Attribution, ConvLensError, Receipt, SynthesizedPicture
from convlens.client._results import receipt_of
from convlens.client.cli._attack_calls import AttackCall
from convlens.client.cli._bits import difference, digests_of, digests_of_picture
from convlens.client.cli._calls import Call
from convlens.client.cli._receipts import Recorded

# What of a receipt may explain a difference, in the order in which it is told.
CAUSES = (
    *("network", "network_version", "network_digest", "convlens_version", "torch_version"),
    *("device_kind", "threads", "precision", "rows", "channels_last", "compiled", "opencv_version"),
)
GONE, NEW = "is not there any more", "was not there"


@dataclass(frozen=True, slots=True)
class Comparison:
    """One answer then and now; `label` is the class that it is about.

    `differing` are the names of the arrays that differ, and `relative` is the largest difference of
    the map relative to its largest value, where the numbers of then were kept.
    """

    picture: str
    method: str
    label: str
    equal: bool
    words: str
    differing: tuple[str, ...] = ()
    relative: float | None = None


def causes(recorded: Recorded, receipt: Receipt) -> dict[str, tuple[Any, Any]]:
    """What the receipts of then and now say differently."""
    then = receipt_of(recorded.receipt)
    pairs = {name: (getattr(then, name), getattr(receipt, name)) for name in CAUSES}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def compared(recorded: Recorded, call: Call, folder: Path) -> Iterator[Comparison]:
    """Every answer of a call; the numbers of then are looked for in `folder`."""
    for entry, outcome in zip(recorded.pictures, call.outcomes, strict=True):
        if "error" in entry or outcome.error is not None:
            yield _of_picture(entry, outcome.error)
            continue
        now = {_place(answer.attribution): answer.attribution for answer in outcome.answers}
        for then in entry["answers"]:
            place = (then["method_index"], then["target_index"])
            yield _of_answer(entry["path"], then, now.pop(place, None), folder)
        for found in now.values():
            yield Comparison(entry["path"], found.method, _label(found), False, NEW)


def compared_verdicts(recorded: Recorded, call: AttackCall) -> Iterator[Comparison]:
    """Every verdict of a call."""
    for entry, outcome in zip(recorded.pictures, call.outcomes, strict=True):
        now = outcome.verdict
        if "error" in entry or now is None:
            yield _of_picture(entry, outcome.error)
            continue
        then: Mapping[str, Any] = entry["verdict"]
        status = ("status",) if then["status"] != now.status else ()
        differing = (*status, *_differing(then["arrays"], digests_of_picture(now)))
        label = then["before"][0]["label"] if then["before"] else ""
        words = _said(differing)
        yield Comparison(entry["path"], then["method"], label, not differing, words, differing)


def compared_pictures(
    method: str, made: Sequence[Mapping[str, Any]], pictures: Sequence[SynthesizedPicture]
) -> Iterator[Comparison]:
    """Every picture that a synthesis `made`; `method` is its title."""
    for number, (then, now) in enumerate(zip_longest(made, pictures), start=1):
        name = (then or {}).get("file") or f"picture {number}"
        yield _of_made(name, method, then, now)


def _of_made(
    name: str, method: str, then: Mapping[str, Any] | None, now: SynthesizedPicture | None
) -> Comparison:
    if then is None:
        label = _label(now) if now else ""
        return Comparison(name, method, label, False, NEW)
    label: str = then["target"]["label"] if then["target"] else ""
    if now is None:
        return Comparison(name, method, label, False, GONE)
    if "error" in then or now.error is not None:
        equal, words = _same_error(then.get("error"), now.error)
        return Comparison(name, method, label, equal, words)
    differing = _differing(then["arrays"], digests_of_picture(now))
    return Comparison(name, method, label, not differing, _said(differing), differing)


def _differing(then: Mapping[str, str], now: Mapping[str, str]) -> tuple[str, ...]:
    """The names of the arrays that differ."""
    return tuple(name for name in sorted({*then, *now}) if then.get(name) != now.get(name))


def _said(differing: Sequence[str]) -> str:
    return f"differs in {', '.join(differing)}" if differing else "equal"


def _of_picture(entry: Mapping[str, Any], now: ConvLensError | None) -> Comparison:
    equal, words = _same_error(entry.get("error"), now)
    return Comparison(entry["path"], "", "", equal, words)


def _of_answer(
    picture: str, then: Mapping[str, Any], now: Attribution | None, folder: Path
) -> Comparison:
    label: str = then["target"]["label"] if then.get("target") else ""
    if now is None:
        return Comparison(picture, then["method"], label, False, GONE)
    if "error" in then or now.error is not None:
        equal, words = _same_error(then.get("error"), now.error)
        return Comparison(picture, then["method"], label, equal, words)
    differing = _differing(then["arrays"], digests_of(now))
    if not differing:
        return Comparison(picture, then["method"], label, True, "equal")
    about_map = "map" in differing or now.values is None
    relative = _relative(then, now, folder) if about_map else None
    words = _in_words(then, differing, relative)
    return Comparison(picture, then["method"], label, False, words, differing, relative)


def _same_error(then: Mapping[str, Any] | None, now: ConvLensError | None) -> tuple[bool, str]:
    if now is None:
        return False, f"had an error: {(then or {}).get('message')}"
    if then is None:
        return False, f"has an error now: {now.message}"
    equal = then["reason"] == now.reason
    return equal, "the same error" if equal else f"has another error now: {now.message}"


def _relative(then: Mapping[str, Any], now: Attribution, folder: Path) -> float | None:
    name = then["files"].get("npy")
    if name is None:
        return None
    try:
        return difference(np.load(folder / name, allow_pickle=False), now.numbers())
    except (OSError, ValueError):
        return None


def _in_words(then: Mapping[str, Any], differing: tuple[str, ...], relative: float | None) -> str:
    words = _said(differing)
    if relative is not None:
        words += f"; by at most {relative:.1e} of the largest value"
    if then["is_partial"]:
        words += "; the time was over then before it was done"
    return words


def _place(found: Attribution) -> tuple[int, int | None]:
    return found.method_index, found.target_index


def _label(found: Attribution | SynthesizedPicture) -> str:
    return found.target.label if found.target else ""
