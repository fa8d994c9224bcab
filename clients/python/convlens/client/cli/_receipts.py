"""receipt.json: what `convlens explain` did, and all that `convlens replay` needs."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import click
from google.protobuf.json_format import ParseDict, ParseError

from convlens.client.cli._bits import digests_of
from convlens.client.cli._calls import Answer, Outcome
from convlens.client.cli._outcomes import error_json
from convlens.client.cli._rows import shown
from convlens.v1 import explanation_pb2 as pb
from convlens.v1 import receipt_pb2

NAME = "receipt.json"
FORMAT = "convlens explain, 1"
# What replaying needs of an answer that is no error.
ANSWERED = ("target", "arrays", "files", "is_partial")


@dataclass(frozen=True, slots=True)
class Recorded:
    """A call as it was written down; `pictures` are as `picture_json` makes them."""

    receipt: receipt_pb2.Receipt
    request: pb.ExplainRequest
    pictures: list[dict[str, Any]]


def answer_json(answer: Answer, files: Mapping[str, str]) -> dict[str, Any]:
    """One method's answer as JSON, with the digests of its numbers and the names of its files."""
    found = answer.attribution
    place = {
        "method": found.method,
        "name": found.name,
        "method_index": found.method_index,
        "target_index": found.target_index,
    }
    if found.error is not None:
        return {**place, "error": error_json(found.error)}
    return {
        **place,
        "target": asdict(found.target) if found.target else None,
        "sign": found.sign,
        "quantity": found.quantity,
        "layer": found.layer,
        "samples": found.samples,
        "error_estimate": asdict(found.error_estimate) if found.error_estimate else None,
        "is_partial": found.is_partial,
        "notes": found.notes,
        "box": found.region.box._asdict() if found.region else None,
        "scores": [
            {"measure": score.name, "score": score.score}
            if score.error is None
            else {"measure": score.name, "error": error_json(score.error)}
            for score in found.scores
        ],
        "seconds": round(answer.seconds, 3),
        "arrays": digests_of(found),
        "files": dict(files),
    }


def picture_json(outcome: Outcome, answers: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One picture and its answers as JSON."""
    picture = outcome.picture
    entry: dict[str, Any] = {"path": os.path.abspath(picture.path), "digest": picture.digest}
    if outcome.error is not None:
        return {**entry, "error": error_json(outcome.error)}
    return {**entry, "answers": list(answers)}


def write_receipts(folder: Path, calls: Sequence[dict[str, Any]]) -> None:
    """Writes the file, or leaves the one before as it is."""
    unfinished = folder / f".{NAME}.partial"
    document = {"format": FORMAT, "calls": calls}
    unfinished.write_text(json.dumps(document, indent=1), encoding="utf-8")
    os.replace(unfinished, folder / NAME)


def read_receipts(path: Path) -> list[Recorded]:
    """What the file says, or ClickException where it says nothing that can be replayed."""
    try:
        document = json.loads(path.read_bytes())
        if document["format"] != FORMAT:
            raise ValueError(f"its format is {document['format']!r}, not {FORMAT!r}")
        if not document["calls"]:
            raise ValueError("it has no calls")
        return [_recorded(call) for call in document["calls"]]
    except OSError as error:
        raise click.ClickException(f"{shown(path)} cannot be read: {error.strerror}.") from error
    except (ValueError, KeyError, TypeError, AttributeError, ParseError) as error:
        words = f"it lacks {error}" if isinstance(error, KeyError) else error
        raise click.ClickException(
            f"{shown(path)} is no receipt of convlens explain: {words}."
        ) from error


def _recorded(call: dict[str, Any]) -> Recorded:
    receipt = ParseDict(call["receipt"], receipt_pb2.Receipt(), ignore_unknown_fields=True)
    request = pb.ExplainRequest()
    if not receipt.parameters.Unpack(request):
        raise ValueError(f"it is of a {receipt.parameters.TypeName() or 'call without parameters'}")
    pictures = [dict(entry) for entry in cast(list[Any], call["pictures"])]
    for entry in pictures:
        _require(entry, "path", "digest", "error" if "error" in entry else "answers")
        for answer in entry.get("answers", []):
            _require(answer, "method", "method_index", "target_index")
            _require(answer, *(["error"] if "error" in answer else ANSWERED))
    return Recorded(receipt, request, pictures)


def _require(entry: Mapping[str, Any], *names: str) -> None:
    for name in names:
        if name not in entry:
            raise KeyError(name)
