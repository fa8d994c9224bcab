"""Makes the page of `convlens robustness`, and its chart as a picture."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from convlens.client import RobustnessPoint
from convlens.client.cli._report_words import parameters, percent
from convlens.client.cli._robustness_chart import Chart, Named, Quantity, chart, named_curves
from convlens.client.cli._robustness_run import Evaluation
from convlens.client.cli._robustness_words import (
    NORMS,
    Curve,
    between,
    budget,
    curves_of,
    failure_sentence,
    flag_sentences,
    images_of,
    partial_sentence,
    worst,
)
from convlens.client.cli._templates import rendered, text_of

# The budget of an attack is the plan's.
NOT_OWN = frozenset({"epsilon", "epsilon-l2"})


@dataclass(frozen=True, slots=True)
class Panel:
    """The charts of one norm."""

    title: str
    charts: Sequence[Chart]
    named: Sequence[Named]


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table of numbers."""

    #: The curve; empty where it is that of the line above.
    title: str
    within: str
    correct: str
    accuracy: str
    accuracy_interval: str
    certainty: str
    certainty_interval: str


@dataclass(frozen=True, slots=True)
class Section:
    """What the page says of one network."""

    network: str
    verdict: str
    notes: Sequence[str]
    flags: Sequence[str]
    rows: Sequence[Row]
    facts: Sequence[tuple[str, str]]
    #: Each attack with its parameters.
    attacks: Sequence[tuple[str, Sequence[tuple[str, str]]]]


def robustness_page(evaluations: Sequence[Evaluation], command: str = "") -> str:
    """One HTML file that needs no other; `command` is what makes it again."""
    networks = " and ".join(dict.fromkeys(each.network for each in evaluations))
    return rendered(
        "robustness.html.j2",
        title=f"How easily {networks} {'is' if len(evaluations) == 1 else 'are'} fooled",
        made=datetime.now().astimezone().strftime("%-d %B %Y, %H:%M %Z"),
        panels=list(_panels(evaluations)),
        sections=[_section(each) for each in evaluations],
        lead=_lead(evaluations[0]),
        command=command,
        style=text_of("report.css") + text_of("chart.css") + text_of("robustness.css"),
    )


def robustness_svg(
    evaluations: Sequence[Evaluation], quantity: Quantity = "accuracy", norm: str = "linf"
) -> str:
    """One chart with its legend as an SVG that needs no other file."""
    named = [each for each in named_curves(evaluations) if each.curve.norm == norm]
    drawn = chart(named, norm, quantity)
    return rendered("robustness.svg.j2", chart=drawn, named=named, style=text_of("chart.css"))


def _panels(evaluations: Sequence[Evaluation]) -> Iterator[Panel]:
    named = named_curves(evaluations)
    for norm in dict.fromkeys(each.curve.norm for each in named):
        charts = [chart(named, norm, "accuracy"), chart(named, norm, "certainty")]
        own = [each for each in named if each.curve.norm == norm]
        yield Panel(NORMS.get(norm, norm), charts, own)


def _lead(evaluation: Evaluation) -> str:
    attacks = ", ".join(evaluation.attacks)
    return f"{images_of(evaluation.images)} · {attacks}"


def _section(evaluation: Evaluation) -> Section:
    curves = curves_of(evaluation)
    notes = [partial_sentence(evaluation), failure_sentence(evaluation)]
    return Section(
        evaluation.network,
        _verdict(worst(curves)),
        [note for note in notes if note],
        flag_sentences(evaluation),
        list(_rows(curves)),
        list(_facts(evaluation)),
        [
            (title, list(_parameters(attack)))
            for title, attack in zip(evaluation.attacks, evaluation.plan.attacks, strict=True)
        ],
    )


def _verdict(curves: Sequence[Curve]) -> str:
    """What the worst curves come to."""
    answered = [curve for curve in curves if curve.points and curve.points[0].images]
    if not answered:
        return "No image has an answer."
    ends = [
        f"on {percent(curve.points[-1].accuracy)} within "
        f"{budget(curve.norm, curve.points[-1].epsilon)} ({NORMS.get(curve.norm, curve.norm)})"
        for curve in answered
    ]
    clean = percent(answered[0].points[0].accuracy)
    return f"Right on {clean} of the images as they are, {' and '.join(ends)}."


def _rows(curves: Sequence[Curve]) -> Iterator[Row]:
    """The clean images once, and then curve by curve."""
    several = len({curve.norm for curve in curves}) > 1
    for point in curves[0].points[:1] if curves else ():
        yield _row("", "no attack", point)
    for curve in curves:
        norm = f" {NORMS.get(curve.norm, curve.norm)}" if several else ""
        attacked = [point for point in curve.points if point.epsilon]
        for number, point in enumerate(attacked):
            title = "" if number else curve.name
            yield _row(title, budget(curve.norm, point.epsilon) + norm, point)


def _row(title: str, within: str, point: RobustnessPoint) -> Row:
    return Row(
        title,
        within,
        f"{point.correct} of {point.images}",
        percent(point.accuracy),
        between(point.accuracy_low, point.accuracy_high),
        percent(point.certainty),
        between(point.certainty_low, point.certainty_high),
    )


def _facts(evaluation: Evaluation) -> Iterator[tuple[str, str]]:
    """How the curve came about."""
    done, plan = evaluation.done, evaluation.plan
    receipt = done.receipt
    yield "network", f"{receipt.network}@{receipt.network_version}"
    yield "digest", receipt.network_digest
    yield "images", f"{done.images_done}, {done.images_failed} of them without an answer"
    rounded = "the picture in 8 bits fools it" if plan.require_rounded else "the pixels fool it"
    yield "success is where", rounded
    yield "intervals", f"{plan.confidence_level * 100:g} %"
    yield "seed", str(receipt.seed)
    yield "device", f"{receipt.device_kind}, {receipt.threads} threads, {receipt.precision}"
    yield "forward passes", f"{receipt.cost.forward_passes:,}"
    yield "backward passes", f"{receipt.cost.backward_passes:,}"
    torch = f", torch {receipt.torch_version}" if receipt.torch_version else ""
    yield "versions", f"ConvLens {receipt.convlens_version}{torch}"
    yield "time", f"{evaluation.seconds:.1f} s"


def _parameters(attack: Any) -> Iterator[tuple[str, str]]:
    method = getattr(attack, cast(str, attack.WhichOneof("method")))
    for name, value in parameters(method):
        if name not in NOT_OWN:
            yield name, value
