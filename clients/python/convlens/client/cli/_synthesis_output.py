"""What `convlens synthesize` prints of the pictures that it made."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from convlens.client import ClassScore, SynthesisDone, SynthesizedPicture, methods
from convlens.client._outcomes import error_json
from convlens.client._text import json_text, printable, shown
from convlens.client.cli._bits import digests_of_picture
from convlens.client.cli._calls import Picture
from convlens.client.cli._receipts import picture_json
from convlens.client.cli._rows import fitted, percent
from convlens.client.cli._tables import Column, Table

LABEL_WIDTH = 12
SAID_WIDTH = LABEL_WIDTH + len(" 100.0 %")
# Numbers that a picture may have, with the titles of their columns.
NUMBERS = {"activation": "activation", "code_distance": "distance", "psnr": "PSNR"}
# Classes that a note names at most.
NAMED = 10


def print_made(
    method: methods.SynthesisMethod,
    done: SynthesisDone,
    places: Sequence[Path],
    receipt: Path,
    seconds: float,
) -> None:
    """The table of the pictures, and what their reader must know."""
    has_target = any(picture.target for picture in done.pictures)
    numbers = [name for name in NUMBERS if any(getattr(p, name) is not None for p in done.pictures)]
    table = Table(
        [
            *([Column("made for", SAID_WIDTH)] if has_target else []),
            Column("answer", SAID_WIDTH),
            Column("as png", SAID_WIDTH),
            *(Column(NUMBERS[name], 8, is_number=True) for name in numbers),
            Column("steps", 6, is_number=True),
            *([Column("file")] if places else []),
        ]
    )
    for number, picture in enumerate(done.pictures):
        first = [_wanted(picture)] if has_target else []
        last = [places[number].name if picture.png else "–"] if places else []
        table.row(*first, *_cells(picture, numbers), *last)
    cost, most = done.receipt.cost, done.estimated_cost
    name = f"{done.receipt.network}@{done.receipt.network_version}"
    click.echo(
        f"{printable(name)}: {cost.forward_passes} of {most.forward_passes} forward and "
        f"{cost.backward_passes} of {most.backward_passes} backward passes, {seconds:.1f} s; "
        f"receipt: {shown(receipt)}"
    )
    for sentence in _notes(method, done):
        click.echo(f"convlens: note: {sentence}", err=True)


def _cells(picture: SynthesizedPicture, numbers: Sequence[str]) -> Iterator[str]:
    yield _said(picture.prediction)
    yield _said(picture.rounded_prediction)
    for name in numbers:
        value = getattr(picture, name)
        yield "–" if value is None else f"{value:#.3g}"
    yield f"{picture.steps}"


def _said(score: ClassScore | None) -> str:
    if score is None:
        return "–"
    return f"{fitted(printable(score.label), LABEL_WIDTH)} {percent(score.probability):>7}"


def _wanted(picture: SynthesizedPicture) -> str:
    """The class that a picture was made for, with its probability where the network was asked."""
    if picture.target is None or picture.prediction is not None:
        return _said(picture.target)
    return printable(picture.target.label)


def _notes(method: methods.SynthesisMethod, done: SynthesisDone) -> Iterator[str]:
    if done.is_partial:
        yield f"the time was over before all steps were done; {_so_far(method)}."
    unsure = sum(picture.confident is False for picture in done.pictures)
    if unsure:
        yield (
            f"{unsure} of {len(done.pictures)} pictures did not reach the wanted confidence; allow "
            "more steps, or more evaluations."
        )
    missed = [p.target.label for p in done.pictures if p.target and _is_missed(p, p.target)]
    if missed:
        named = ", ".join(printable(label) for label in missed[:NAMED])
        more = f" and {len(missed) - NAMED} more" if len(missed) > NAMED else ""
        yield f"the network gives another answer to what was made for {named}{more}."


def _so_far(method: methods.SynthesisMethod) -> str:
    """Which picture there is where the time was over."""
    match method.WhichOneof("method"), method.fooling.WhichOneof("encoding"):
        case "inversion", _:
            return "each picture is the one of the lowest loss so far"
        case "fooling", "gradient":
            return "each picture is the latest one, or the end of an earlier climb that was surer"
        case "fooling", _:
            return "each picture is the best one of its class so far"
        case _:
            return "the picture is the latest one"


def _is_missed(picture: SynthesizedPicture, target: ClassScore) -> bool:
    """Whether the network answers with another class, to the pixels or to the PNG."""
    answers = (picture.prediction, picture.rounded_prediction)
    return any(answer and answer.index != target.index for answer in answers)


def print_document(
    command: str,
    done: SynthesisDone,
    places: Sequence[Path],
    files: dict[str, Path | None],
    seconds: float,
) -> None:
    """Everything as one JSON document; `files` by their kind."""
    document = {
        "command": command,
        "network": f"{done.receipt.network}@{done.receipt.network_version}",
        "pictures": [
            made_json(picture, str(place) if place else None)
            for picture, place in zip(done.pictures, _files(done, places), strict=True)
        ],
        "is_partial": done.is_partial,
        "files": {kind: str(path) if path else None for kind, path in files.items()},
        "cost": asdict(done.receipt.cost),
        "estimated_cost": asdict(done.estimated_cost),
        "receipt": done.receipt.to_dict(),
        "seconds": round(seconds, 3),
    }
    click.echo(json_text(document))


def call_json(
    done: SynthesisDone, places: Sequence[Path], source: Picture | None
) -> dict[str, Any]:
    """The call as a receipt has it; `source` is the picture that was inverted, if any."""
    return {
        "receipt": done.receipt.to_dict(),
        "pictures": [picture_json(source, None)] if source else [],
        "made": [
            made_json(picture, place.name if place else None)
            for picture, place in zip(done.pictures, _files(done, places), strict=True)
        ],
        "is_partial": done.is_partial,
    }


def _files(done: SynthesisDone, places: Sequence[Path]) -> list[Path | None]:
    """The file of each picture that has one."""
    if not places:
        return [None] * len(done.pictures)
    pairs = zip(done.pictures, places, strict=True)
    return [place if picture.png else None for picture, place in pairs]


def made_json(picture: SynthesizedPicture, file: str | None) -> dict[str, Any]:
    """A picture as JSON, with the digests of what it is, and the name of its file."""
    target, said, rounded = (
        asdict(score) if score else None
        for score in (picture.target, picture.prediction, picture.rounded_prediction)
    )
    return {
        "target": target,
        "prediction": said,
        "rounded_prediction": rounded,
        "activation": picture.activation,
        "code_distance": picture.code_distance,
        "psnr": picture.psnr,
        "confident": picture.confident,
        "steps": picture.steps,
        "arrays": digests_of_picture(picture),
        "file": file,
        **({"error": error_json(picture.error)} if picture.error else {}),
    }


def tell_errors(done: SynthesisDone) -> bool:
    """Says which pictures could not be made, and why; whether there are any."""
    for number, picture in enumerate(done.pictures, start=1):
        if picture.error is not None:
            click.echo(f"convlens: picture {number}: {printable(picture.error.message)}", err=True)
    return any(picture.error for picture in done.pictures)


def tell_files(out: Path | None, gif: Path | None, count: int) -> None:
    """Says where to look."""
    if out is not None and count > 1:
        click.echo(f"all of them are in {shown(out)}")
    if gif is not None:
        click.echo(f"how they grew is in {shown(gif)}" if count > 1 else f"growth: {shown(gif)}")
