"""Drawings as numbers that an SVG takes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from convlens.loadtest.page.scales import Scale

# Of a drawing, in its own units: a phone shows some 340 of them at their size.
WIDTH, HEIGHT = 420, 270
LEFT, RIGHT, TOP, BOTTOM = 54, 14, 22, 44
# Colours that chart.css has.
COLORS = 6
# What a character of a label takes at most.
CHARACTER = 7.0


@dataclass(frozen=True, slots=True)
class Series:
    """Values over an axis; `color` 0 is that of the text, `dash` 0 is none. None is a gap."""

    name: str
    color: int
    points: Sequence[tuple[float, float | None]]
    dash: int = 0
    is_thick: bool = False
    has_marks: bool = False
    #: What each mark says when it is pointed at.
    titles: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Band:
    """A part of the axis, from one value to another, with a name."""

    begin: float
    end: float
    name: str
    is_faint: bool = False


@dataclass(frozen=True, slots=True)
class Column:
    """What lies on each other over a part of the axis: (color, from, to)."""

    begin: float
    end: float
    parts: Sequence[tuple[int, float, float]]


@dataclass(frozen=True, slots=True)
class Hint:
    """What a part of the axis says when it is pointed at."""

    begin: float
    end: float
    text: str


@dataclass(frozen=True, slots=True)
class Label:
    """Words at a place."""

    at: float
    text: str
    anchor: str = "middle"


@dataclass(frozen=True, slots=True)
class Line:
    """A drawn series: each unbroken piece is a path."""

    classes: str
    paths: Sequence[str]
    marks: Sequence[tuple[float, float, str]]


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle."""

    x: float
    y: float
    width: float
    height: float
    text: str = ""
    classes: str = ""


@dataclass(frozen=True, slots=True)
class Chart:
    """A drawing, with its legend."""

    title: str
    about: str
    axis: str
    columns: Sequence[Label]
    rows: Sequence[Label]
    lines: Sequence[Line]
    boxes: Sequence[Box]
    bands: Sequence[Box]
    hints: Sequence[Box]
    key: Sequence[tuple[str, str]]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    top: int = TOP
    bottom: int = HEIGHT - BOTTOM


@dataclass(frozen=True, slots=True)
class Plan:
    """What a chart is made of."""

    title: str
    about: str
    axis: str
    x: Scale
    y: Scale
    series: Sequence[Series] = ()
    bands: Sequence[Band] = ()
    columns: Sequence[Column] = ()
    hints: Sequence[Hint] = ()
    #: Names of colours that columns have.
    key: Sequence[tuple[str, int]] = ()


def drawn(plan: Plan) -> Chart:
    """The drawing of a plan."""
    return Chart(
        title=plan.title,
        about=plan.about,
        axis=plan.axis,
        columns=list(_apart(plan.x)),
        rows=[Label(_y_of(tick.at), tick.label) for tick in plan.y.ticks()],
        lines=[_line(plan, each) for each in plan.series],
        boxes=[box for column in plan.columns for box in _boxes(plan, column)],
        bands=list(_bands(plan)),
        hints=[
            Box(x, TOP, width, HEIGHT - TOP - BOTTOM, each.text)
            for each in plan.hints
            for x, width in [_span(plan.x, each.begin, each.end)]
        ],
        key=[(each.name, _classes(each)) for each in plan.series]
        + [(name, f"c{color} d0") for name, color in plan.key],
    )


def _line(plan: Plan, series: Series) -> Line:
    paths, piece = list[str](), list[str]()
    marks = list[tuple[float, float, str]]()
    for number, (x, y) in enumerate(series.points):
        if y is None:
            paths, piece = [*paths, " ".join(piece)], []
            continue
        at = _x_of(plan.x.place(x)), _y_of(plan.y.place(y))
        piece.append(f"{at[0]:g},{at[1]:g}")
        if series.has_marks:
            marks.append((*at, series.titles[number]))
    return Line(_classes(series), [path for path in [*paths, " ".join(piece)] if path], marks)


def _classes(series: Series) -> str:
    return f"c{series.color} d{series.dash}{' thick' if series.is_thick else ''}"


def _boxes(plan: Plan, column: Column) -> Iterator[Box]:
    x, width = _span(plan.x, column.begin, column.end)
    for color, low, high in column.parts:
        top, foot = _y_of(plan.y.place(high)), _y_of(plan.y.place(low))
        yield Box(x, top, round(width, 2), round(foot - top, 2), classes=f"c{color}")


def _bands(plan: Plan) -> Iterator[Box]:
    for number, band in enumerate(plan.bands):
        x, width = _span(plan.x, band.begin, band.end)
        fits = len(band.name) * CHARACTER <= width
        shade = "faint" if band.is_faint else "odd" if number % 2 else "even"
        text = band.name if fits else ""
        yield Box(x, TOP, width, HEIGHT - TOP - BOTTOM, text, shade)


def _apart(scale: Scale) -> Iterator[Label]:
    """The labels of the axis below; those that would lie on others are left out."""
    taken = -float(WIDTH)
    for tick in scale.ticks():
        at, half = _x_of(tick.at), CHARACTER * len(tick.label) / 2
        fits = at - half > taken + 4
        if fits:
            taken = at + half
        yield Label(at, tick.label if fits else "")


def _span(scale: Scale, begin: float, end: float) -> tuple[float, float]:
    first, last = (_x_of(min(1.0, max(0.0, scale.place(each)))) for each in (begin, end))
    return first, round(last - first, 2)


def _x_of(place: float) -> float:
    return round(LEFT + (WIDTH - LEFT - RIGHT) * place, 2)


def _y_of(place: float) -> float:
    return round(TOP + (HEIGHT - TOP - BOTTOM) * (1 - min(1.0, max(0.0, place))), 2)
