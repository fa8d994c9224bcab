"""What `convlens robustness` prints of its curves."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from convlens.client import RobustnessPoint
from convlens.client._text import json_text, printable, shown
from convlens.client.cli._robustness_run import Evaluation
from convlens.client.cli._robustness_words import (
    Curve,
    between,
    budget,
    curves_of,
    failure_sentence,
    flag_sentences,
    images_of,
    partial_sentence,
)
from convlens.client.cli._rows import percent
from convlens.client.cli._tables import Column, Table, width_of

FORMAT = "convlens robustness, 1"
NAME_WIDTH = 22
CLEAN = "no attack"


def print_evaluation(evaluation: Evaluation) -> None:
    """The table of one network, and what its reader must know."""
    level = f"{evaluation.plan.confidence_level * 100:g} %"
    counted = evaluation.done.images_done - evaluation.done.images_failed
    click.echo(
        f"{printable(evaluation.network)}: {images_of(counted)}, intervals of {level}, "
        f"seed {evaluation.plan.seed}"
    )
    curves = curves_of(evaluation)
    names = [CLEAN, *(curve.name for curve in curves)]
    table = Table(
        [
            Column("attack", width_of("attack", names, NAME_WIDTH)),
            Column("epsilon", 8, is_number=True),
            Column("accuracy", 8, is_number=True),
            Column("interval", 13, is_number=True),
            Column("certainty", 9, is_number=True),
            Column("interval", 13, is_number=True),
        ]
    )
    for row in _rows(curves):
        table.row(*row)
    cost = evaluation.done.receipt.cost
    click.echo(
        f"{cost.forward_passes} forward and {cost.backward_passes} backward passes, "
        f"{evaluation.seconds:.1f} s"
    )
    for sentence in _notes(evaluation):
        click.echo(f"convlens: note: {printable(sentence)}", err=True)


def _notes(evaluation: Evaluation) -> Iterator[str]:
    said = [partial_sentence(evaluation), failure_sentence(evaluation)]
    yield from filter(None, [*said, *flag_sentences(evaluation)])


def _rows(curves: Sequence[Curve]) -> Iterator[tuple[str, ...]]:
    for curve in curves[:1]:
        for point in curve.points:
            if point.epsilon == 0:
                yield CLEAN, *_cells("0", point)
    for curve in curves:
        for point in curve.points:
            if point.epsilon > 0:
                size = budget(curve.norm, point.epsilon)
                yield curve.name, *_cells(size if curve.norm == "linf" else f"L2 {size}", point)


def _cells(epsilon: str, point: RobustnessPoint) -> tuple[str, ...]:
    return (
        epsilon,
        percent(point.accuracy),
        between(point.accuracy_low, point.accuracy_high),
        percent(point.certainty),
        between(point.certainty_low, point.certainty_high),
    )


def print_document(evaluations: Sequence[Evaluation], page: Path | None) -> None:
    """Everything as one JSON document."""
    document = {
        "format": FORMAT,
        "evaluations": [_document(evaluation) for evaluation in evaluations],
        "page": str(page) if page else None,
    }
    click.echo(json_text(document))


def tell_page(page: Path) -> None:
    """Where the page is."""
    click.echo(f"the curve is in {shown(page)}")


def _document(evaluation: Evaluation) -> dict[str, Any]:
    done = evaluation.done
    return {
        "network": evaluation.network,
        "attacks": evaluation.attacks,
        "points": [
            {
                "attack": None if point.attack_index is None else _name(evaluation, point),
                **asdict(point),
            }
            for point in done.points
        ],
        "images": evaluation.images,
        "images_done": done.images_done,
        "images_failed": done.images_failed,
        "failures": dict(evaluation.failures),
        "is_partial": done.is_partial,
        "flags": [
            {"attack": evaluation.attacks[attack], "flag": flag, "images": count}
            for (attack, flag), count in sorted(evaluation.flags.items())
        ],
        "items": list(evaluation.items),
        "cost": asdict(done.receipt.cost),
        "estimated_cost": asdict(done.estimated_cost),
        "receipt": done.receipt.to_dict(),
        "seconds": round(evaluation.seconds, 3),
    }


def _name(evaluation: Evaluation, point: RobustnessPoint) -> str:
    return evaluation.attacks[point.attack_index or 0]
