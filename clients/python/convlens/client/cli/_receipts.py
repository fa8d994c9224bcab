"""receipt.json: what explain, attack or synthesize did, and all that `convlens replay` needs."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeAlias, cast

import click
from google.protobuf.json_format import ParseDict, ParseError

from convlens.client import ConvLensError
from convlens.client._outcomes import error_json
from convlens.client._text import json_text, readable, shown
from convlens.client.cli._bits import digests_of
from convlens.client.cli._calls import Answer, Picture
from convlens.client.cli._files import write_whole
from convlens.client.cli._receipt_form import check_call, check_document, check_synthesis
from convlens.v1 import (
    adversarial_pb2,
    explanation_pb2,
    receipt_pb2,
    synthesis_methods_pb2,
    synthesis_pb2,
)

NAME = "receipt.json"
FORMAT, ATTACK_FORMAT = "convlens explain, 1", "convlens attack, 1"
SYNTHESIS_FORMAT = "convlens synthesize, 1"
REQUESTS: Mapping[str, type[Any]] = {
    FORMAT: explanation_pb2.ExplainRequest,
    ATTACK_FORMAT: adversarial_pb2.AttackRequest,
    SYNTHESIS_FORMAT: synthesis_pb2.SynthesizeRequest,
}
Request: TypeAlias = (
    explanation_pb2.ExplainRequest | adversarial_pb2.AttackRequest | synthesis_pb2.SynthesizeRequest
)


@dataclass(frozen=True, slots=True)
class Recorded:
    """A call as it was written down; `pictures` are as `picture_json` makes them.

    `made` are the pictures that a synthesis made, as `made_json` has them.
    """

    receipt: receipt_pb2.Receipt
    request: Request
    pictures: list[dict[str, Any]]
    made: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])


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


def picture_json(picture: Picture, error: ConvLensError | None, **found: object) -> dict[str, Any]:
    """One picture as JSON, with its error, or with what was found."""
    path = os.path.abspath(picture.path)
    entry: dict[str, Any] = {"path": path, "digest": picture.digest}
    if readable(path) != path:
        # Where its name is no text, nobody can find it by what is written of it.
        entry["path_hex"] = os.fsencode(path).hex()
    return {**entry, "error": error_json(error)} if error is not None else {**entry, **found}


def path_of(entry: Mapping[str, Any]) -> Path:
    """Where a picture of a receipt was."""
    path = entry["path"]
    return Path(os.fsdecode(bytes.fromhex(entry["path_hex"])) if "path_hex" in entry else path)


def write_receipts(file: Path, form: str, calls: Sequence[dict[str, Any]]) -> None:
    """Writes the file, or leaves the one before as it is; ClickException says why."""
    write_whole(file, json_text({"format": form, "calls": calls}, indent=1))


def read_receipts(path: Path) -> list[Recorded]:
    """What the file says, or ClickException where it says nothing that can be replayed."""
    try:
        document = json.loads(path.read_bytes())
        _refuse_evaluation(path, document)
        check_document(document)
        request = REQUESTS.get(document["format"])
        if request is None:
            known = " or ".join(map(repr, REQUESTS))
            raise ValueError(f"its format is {document['format']!r}, not {known}")
        if not isinstance(document.get("calls"), list) or not document["calls"]:
            raise ValueError("it has no calls")
        recorded = [
            _recorded(call, f"calls[{number}]", request)
            for number, call in enumerate(document["calls"])
        ]
    except OSError as error:
        raise click.ClickException(f"{shown(path)} cannot be read: {error.strerror}.") from error
    except (ValueError, ParseError, RecursionError) as error:
        no_json = isinstance(error, json.JSONDecodeError | UnicodeDecodeError | RecursionError)
        words = "it is no JSON, or was cut off" if no_json else error
        raise click.ClickException(
            f"{shown(path)} is no receipt of convlens explain, attack or synthesize: {words}."
        ) from error
    _refuse_partial(path, document["calls"])
    return recorded


def _refuse_evaluation(path: Path, document: Any) -> None:
    """Raises ClickException where the file is of EvaluateRobustness, whatever part of it."""
    if not isinstance(document, dict):
        return
    found = cast(dict[str, Any], document)
    kind = json.dumps([found.get("format"), found.get("parameters")])
    if "convlens robustness" in kind or "RobustnessPlan" in kind:
        raise click.ClickException(
            f"{shown(path)} is a receipt of EvaluateRobustness, which names no pictures; run "
            "'convlens robustness' again with the same seed, and compare the curves."
        )


def _refuse_partial(path: Path, calls: Sequence[dict[str, Any]]) -> None:
    """Raises ClickException where a synthesis was over before its pictures were done."""
    if any(call.get("is_partial") for call in calls):
        raise click.ClickException(
            f"{shown(path)} is of pictures whose time was over before they were done; no run stops "
            "at the same step again. Give 'convlens synthesize' more time, and replay what it "
            "writes then."
        )


def _recorded(call: Any, where: str, kind: type[Any]) -> Recorded:
    of_attack = kind is adversarial_pb2.AttackRequest
    of_synthesis = kind is synthesis_pb2.SynthesizeRequest
    if of_synthesis:
        check_synthesis(call, where)
    else:
        check_call(call, where, "verdict" if of_attack else "answers")
    receipt = ParseDict(call["receipt"], receipt_pb2.Receipt(), ignore_unknown_fields=True)
    request = kind()
    if not receipt.parameters.Unpack(request):
        raise ValueError(f"it is of a {receipt.parameters.TypeName() or 'call without parameters'}")
    if of_synthesis:
        _check_source(request.method, len(call["pictures"]), where)
        return Recorded(receipt, request, call["pictures"], call["made"])
    truths = request.true_classes if of_attack else request.true_regions
    if truths and len(truths) != len(call["pictures"]):
        what = "true classes" if of_attack else "true regions"
        found = f"{len(call['pictures'])} pictures and {len(truths)} {what}"
        raise ValueError(f"{where} has {found}; there must be as many")
    return Recorded(receipt, request, call["pictures"])


def _check_source(method: synthesis_methods_pb2.SynthesisMethod, count: int, where: str) -> None:
    """ValueError where it is not said what to make, or not what of."""
    name = method.WhichOneof("method")
    if name is None:
        raise ValueError(f"{where} has no method")
    wanted = int(name == "inversion" and not method.inversion.HasField("code"))
    if count != wanted:
        raise ValueError(f"{where} has {count} pictures; it must have {wanted}")
