"""Draws curves of accuracy and of certainty, as numbers that an SVG takes."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from convlens.client import RobustnessPoint
from convlens.client.cli._report_words import percent
from convlens.client.cli._robustness_run import Evaluation
from convlens.client.cli._robustness_words import Curve, budget, curves_of

Quantity = Literal["accuracy", "certainty"]

# Of the drawing, in its own units: a phone shows some 340 of them at their size.
WIDTH, HEIGHT = 420, 300
LEFT, RIGHT, TOP, BOTTOM = 50, 24, 14, 46
# Colours, dashes and marks there are; see chart.css.
COLORS, DASHES, MARKS = 6, 6, 4
# What a character of a label takes at most.
CHARACTER = 7.0
TITLES = {"accuracy": "Accuracy", "certainty": "Certainty"}
ABOUT = {
    "accuracy": "Share of images that are still answered right",
    "certainty": "Mean probability of the true class",
}
AXES = {"linf": "largest change of any value", "l2": "Euclidean length of the change"}


@dataclass(frozen=True, slots=True)
class Style:
    """How a line looks, in numbers of classes of chart.css; color 0 is that of the text."""

    color: int
    dash: int
    mark: int
    is_thick: bool


@dataclass(frozen=True, slots=True)
class Mark:
    """A point of a line: its place, and what it says when it is pointed at."""

    x: float
    y: float
    title: str


@dataclass(frozen=True, slots=True)
class Line:
    """One curve with the band of its intervals; an empty band is not drawn."""

    name: str
    style: Style
    path: str
    band: str
    marks: Sequence[Mark]


@dataclass(frozen=True, slots=True)
class Tick:
    """A place on an axis; `label` is empty where there is no room for it."""

    at: float
    label: str


@dataclass(frozen=True, slots=True)
class Chart:
    """One drawing; thick lines come first, so that none is hidden behind them."""

    title: str
    about: str
    axis: str
    lines: Sequence[Line]
    columns: Sequence[Tick]
    rows: Sequence[Tick]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    top: int = TOP
    bottom: int = HEIGHT - BOTTOM


@dataclass(frozen=True, slots=True)
class Named:
    """A curve with what its line is called and how it looks."""

    name: str
    curve: Curve
    style: Style
    has_band: bool


def named_curves(evaluations: Sequence[Evaluation]) -> list[Named]:
    """The curves of all networks.

    Of one network each attack has a colour; of several each network has one, and each attack a
    dash. All together are thick.
    """
    several = len(evaluations) > 1
    return [
        _named(evaluation, number if several else None, curve)
        for number, evaluation in enumerate(evaluations)
        for curve in curves_of(evaluation)
    ]


def _named(evaluation: Evaluation, network: int | None, curve: Curve) -> Named:
    place = curve.attack or 0
    thick = curve.is_worst
    if network is None:
        # The curve that counts has the colour of the text, where it is of several attacks.
        color = 0 if curve.attack is None else place % COLORS + 1
        dash = 0 if thick else place // COLORS % DASHES
        style = Style(color, dash, place % MARKS, thick)
        return Named(curve.name, curve, style, has_band=True)
    dash = 0 if thick else 1 + place % (DASHES - 1)
    style = Style(network % COLORS + 1, dash, network % MARKS, thick)
    return Named(f"{evaluation.network}, {curve.name}", curve, style, has_band=thick)


def chart(named: Sequence[Named], norm: str, quantity: Quantity) -> Chart:
    """The drawing of all curves of one norm."""
    own = [each for each in named if each.curve.norm == norm]
    budgets = sorted({point.epsilon for each in own for point in each.curve.points})
    most = max(budgets, default=0) or 1

    def x(epsilon: float) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * epsilon / most, 2)

    lines = [_line(each, quantity, x) for each in own]
    return Chart(
        TITLES[quantity],
        ABOUT[quantity],
        AXES.get(norm, norm),
        sorted(lines, key=lambda line: not line.style.is_thick),
        list(_columns(norm, budgets, x)),
        [Tick(_y(share / 5), f"{share * 20} %") for share in range(6)],
    )


def _line(named: Named, quantity: Quantity, x: Callable[[float], float]) -> Line:
    points = named.curve.points
    upper = [(x(p.epsilon), _y(_ends(p, quantity)[1])) for p in points]
    lower = [(x(p.epsilon), _y(_ends(p, quantity)[0])) for p in points]
    band = _path([*upper, *reversed(lower)]) if named.has_band and len(points) > 1 else ""
    marks = [
        Mark(x(p.epsilon), _y(_value(p, quantity)), _title(named, p, quantity)) for p in points
    ]
    return Line(named.name, named.style, _path([(m.x, m.y) for m in marks]), band, marks)


def _title(named: Named, point: RobustnessPoint, quantity: Quantity) -> str:
    low, high = (percent(end) for end in _ends(point, quantity))
    size = f"under {budget(point.norm, point.epsilon)}" if point.epsilon else "without an attack"
    value = percent(_value(point, quantity))
    counted = f"; {point.correct} of {point.images} right" if quantity == "accuracy" else ""
    return f"{named.name}, {size}: {value} ({low} to {high}){counted}"


def _columns(norm: str, budgets: Sequence[float], x: Callable[[float], float]) -> Iterator[Tick]:
    """A tick for each budget; labels that would lie on others are left out, never the last."""
    labels = [budget(norm, each) for each in budgets]
    free = x(budgets[-1]) - CHARACTER * (len(labels[-1]) / 2 + 1) if budgets else 0
    taken = -WIDTH
    for number, (epsilon, label) in enumerate(zip(budgets, labels, strict=True)):
        at, half = x(epsilon), CHARACTER * len(label) / 2
        is_last = number == len(budgets) - 1
        fits = at - half > taken + CHARACTER and (is_last or at + half < free)
        if fits or is_last:
            taken = at + half
        yield Tick(at, label if fits or is_last else "")


def _value(point: RobustnessPoint, quantity: Quantity) -> float:
    return point.accuracy if quantity == "accuracy" else point.certainty


def _ends(point: RobustnessPoint, quantity: Quantity) -> tuple[float, float]:
    if quantity == "accuracy":
        return point.accuracy_low, point.accuracy_high
    return point.certainty_low, point.certainty_high


def _y(share: float) -> float:
    return round(TOP + (HEIGHT - TOP - BOTTOM) * (1 - share), 2)


def _path(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:g},{y:g}" for x, y in points)
