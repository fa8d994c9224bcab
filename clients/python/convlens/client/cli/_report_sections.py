"""Turns the answers of one picture into what a report says of it."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from convlens.client import (
    ActivationMap,
    Attribution,
    Classification,
    DeconvnetPatch,
    FilterPlanes,
    QualityScore,
)
from convlens.client.cli._calls import Outcome
from convlens.client.cli._report_drawings import (
    LONGEST,
    SMALLEST,
    curve_points,
    greys,
    legend_of,
    place_of,
    shown_map,
    shown_picture,
    shown_pixels,
    shown_tile,
)
from convlens.client.cli._report_model import Attacked, Map, Score, Section, Unit, Units
from convlens.client.cli._report_words import number, parameters
from convlens.client.cli._tally import notes_of

# How scores are to be read, of measures where that is not plain.
READINGS = {
    "deletion": "small is good",
    "insertion": "large is good",
    "completeness": "0 is good",
    "max_sensitivity": "small is stable",
    "model_randomization": "near 1 is bad",
}


def section_of(
    anchor: str,
    outcome: Outcome,
    classes: Classification | None,
    attacks: Sequence[Attacked] = (),
) -> Section:
    """What became of one picture."""
    path = outcome.picture.path
    name, folder = path.name, "" if path.parent == Path() else str(path.parent)
    if outcome.error is not None:
        return Section(anchor, name, folder, outcome.error.message)
    found = [answer.attribution for answer in outcome.answers]
    return Section(
        anchor,
        name,
        folder,
        picture=shown_picture(outcome.picture.data, LONGEST),
        thumbnail=shown_picture(outcome.picture.data, SMALLEST),
        classes=classes.classes if classes else (),
        targets=list(_by_target([each for each in found if not _is_of_units(each)])),
        units=[_units(each) for each in found if _is_of_units(each)],
        attacks=attacks,
    )


def _is_of_units(found: Attribution) -> bool:
    return found.name in ("deconvnet", "activations", "filters")


def _by_target(found: Sequence[Attribution]) -> Iterator[list[Map]]:
    """Maps target by target, method by method."""
    for target in dict.fromkeys(each.target_index for each in found):
        yield [_map(each) for each in found if each.target_index == target]


def _map(found: Attribution) -> Map:
    if found.error is not None:
        return Map(found.method, None, found.error.message)
    drawing = found.image()
    return Map(
        found.method,
        found.target,
        uri=shown_map(drawing),
        legend=legend_of(found, drawing),
        quantity=found.quantity,
        scores=[_score(score) for score in found.scores],
        notes=notes_of(found),
        facts=list(_facts(found)),
    )


def _score(score: QualityScore) -> Score:
    error = score.error.message if score.error else ""
    reading = READINGS.get(score.name, "")
    return Score(score.measure, reading, score.score, error, curve_points(score.curve))


def _facts(found: Attribution) -> Iterator[tuple[str, str]]:
    """What is told of an answer to those who ask."""
    yield from parameters(found.parameters)
    if found.layer:
        yield "layer", found.layer
    yield "evaluations", f"{found.samples:,}"
    if (error := found.error_estimate) is not None:
        kind = error.kind.replace("_", " ")
        share = error.relative
        size = number(error.absolute) if share is None else f"{number(share * 100)} %"
        yield "error", f"{size} ({kind})"
    if found.values is not None:
        smallest, largest = float(found.values.min()), float(found.values.max())
        yield "range", f"{number(smallest)} to {number(largest)}"
        yield "shape", " × ".join(map(str, found.values.shape))


def _units(found: Attribution) -> Units:
    if found.error is not None:
        return Units(found.method, "", error=found.error.message)
    return Units(
        found.method,
        found.layer,
        [_unit(found, part) for part in found.parts],
        notes=notes_of(found),
        facts=list(parameters(found.parameters)),
        greys=greys(),
    )


def _unit(found: Attribution, part: Any) -> Unit:
    match part:
        case DeconvnetPatch():
            return _patch(found, part)
        case ActivationMap():
            rows, columns = part.values.shape
            facts = [("strength", number(part.strength)), ("size", f"{rows} × {columns}")]
            return Unit(f"Map {part.map_index}", shown_tile(part.image()), facts)
        case FilterPlanes():
            shape = " × ".join(map(str, part.weights.shape))
            return Unit(f"Filter {part.map_index}", shown_tile(part.image()), [("size", shape)])
        case _:
            raise TypeError(f"{type(part).__name__} is no part of an answer")


def _patch(found: Attribution, part: DeconvnetPatch) -> Unit:
    box = part.receptive_field
    facts = [
        ("activation", number(part.activation)),
        *(
            [("unit", f"row {part.position[0]}, column {part.position[1]}")]
            if part.position
            else []
        ),
        ("sees", f"{box.right - box.left:.0f} × {box.bottom - box.top:.0f} px"),
        ("from", f"{number(box.left)}, {number(box.top)}"),
    ]
    return Unit(
        f"Map {part.map_index}",
        shown_tile(part.image()),
        facts,
        shown_pixels(part.input_patch),
        place_of(found, box),
        part.scale,
    )
