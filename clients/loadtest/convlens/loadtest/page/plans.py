"""The charts of a result."""

from collections.abc import Iterator, Sequence

from convlens.loadtest.page.charts import COLORS, Band, Chart, Column, Hint, Plan, Series, drawn
from convlens.loadtest.page.scales import (
    Linear,
    Log,
    Percentiles,
    clock,
    clock_label,
    linear,
    nines_of,
)
from convlens.loadtest.results.histogram import Histogram
from convlens.loadtest.results.model import Figures, PhaseResult, Result
from convlens.loadtest.results.words import rate, seconds

# Colours of percentiles, and those of reasons, in chart.css.
OF_PERCENTILES = {"p50": 3, "p90": 1, "p99": 2, "max": 0}
# Reasons that have a colour of their own.
REASONS = 5
MOST_LINES = 6


def over_time(result: Result) -> Iterator[Chart]:
    """Latency, rates, failures and queues."""
    yield _latency(result)
    yield _rates(result)
    if result.series.reasons:
        yield _failures(result)
    if any(value for value in result.series.queue):
        yield _queue(result)


def distributions(result: Result) -> Iterator[Chart]:
    """Latencies by percentile: of phases, and of calls or tenants where there are several."""
    measured = [phase for phase in result.phases if not phase.warm_up]
    of_phases = {phase.name: phase.figures for phase in measured}
    groups = [("By phase" if len(of_phases) > 1 else "All requests", of_phases)]
    groups += [("By call", result.calls)] if len(result.calls) > 1 else []
    groups += [("By tenant", result.tenants)] if len(result.tenants) > 1 else []
    for title, figures in groups:
        chart = _distribution(title, figures)
        if chart:
            yield chart


def saturation(phase: PhaseResult) -> Iterator[Chart]:
    """What came of rising rates: good answers, and latencies."""
    steps = phase.steps
    x = linear(step.figures.offered for step in steps)
    points = [(step.figures.offered, step.figures.goodput) for step in steps]
    titles = [
        f"{rate(step.figures.offered)} offered: {rate(step.figures.goodput)} good"
        f"{', too much' if step.saturated else ''}"
        for step in steps
    ]
    good = Series("good answers", 1, points, 0, True, True, titles)
    ideal = Series("as many as offered", 0, [(0, 0), (x.end, x.end)], 1)
    about = "Good answers a second, against requests a second"
    yield drawn(Plan("What comes back", about, "requests a second", x, x, [ideal, good]))
    lines = list(_step_latencies(phase))
    values = [value for line in lines for _, value in line.points if value]
    about = "Time from when a request was due until it was answered, against requests a second"
    y = Log.around(values)
    yield drawn(Plan("How long it takes", about, "requests a second", x, y, lines))


def _step_latencies(phase: PhaseResult) -> Iterator[Series]:
    for name in ("p50", "p99"):
        found = [(step.figures.offered, step.figures.latency) for step in phase.steps]
        points = [(x, getattr(times, name)) for x, times in found if times]
        titles = [f"{rate(x)} offered: {name} {seconds(value)}" for x, value in points]
        yield Series(name, OF_PERCENTILES[name], points, 0, name == "p99", True, titles)


def _latency(result: Result) -> Chart:
    series = result.series
    lines = [
        Series(name, color, _timed(result, getattr(series, name)), 1 if name == "max" else 0,
               name == "p99")
        for name, color in OF_PERCENTILES.items()
    ]  # fmt: skip
    values = [value for line in lines for _, value in line.points if value]
    hints = [
        Hint(begin, end, f"{clock_label(begin)}: p50 {seconds(series.p50[n])}, "
             f"p90 {seconds(series.p90[n])}, p99 {seconds(series.p99[n])}, "
             f"max {seconds(series.max[n])}")
        for n, begin, end in _intervals(result)
        if series.p50[n] is not None
    ]  # fmt: skip
    about = "Time from when requests were due until they were answered, by when they were due"
    return drawn(_timed_plan(result, "Latency", about, Log.around(values), lines, hints))


def _rates(result: Result) -> Chart:
    series, width = result.series, result.series.interval
    due = [count / width for count in series.due]
    came = [count / width for count in series.came]
    lines = [
        Series("due", 0, _timed(result, due), 1),
        Series("good answers", 3, _timed(result, came), 0, True),
    ]
    hints = [
        Hint(begin, end, f"{clock_label(begin)}: {rate(due[n])} due, {rate(came[n])} good answers")
        for n, begin, end in _intervals(result)
    ]
    about = "Requests that were due a second, and good answers that came"
    return drawn(_timed_plan(result, "Rates", about, linear([*due, *came]), lines, hints))


def _failures(result: Result) -> Chart:
    series, width = result.series, result.series.interval
    by_size = sorted(series.reasons, key=lambda name: -sum(series.reasons[name]))
    names = by_size[:REASONS]
    colors = {name: (2, 4, 5, 1, 6)[n] for n, name in enumerate(names)}
    columns, most = list[Column](), 0.0
    hints = list[Hint]()
    for n, begin, end in _intervals(result):
        parts, height = list[tuple[int, float, float]](), 0.0
        for name in by_size:
            count = series.reasons[name][n] / width
            if count:
                parts.append((colors.get(name, 0), height, height + count))
                height += count
        columns.append(Column(begin, end, parts))
        most = max(most, height)
        told = [f"{name} {series.reasons[name][n]}" for name in by_size if series.reasons[name][n]]
        if told:
            hints.append(Hint(begin, end, f"{clock_label(begin)}: {', '.join(told)}"))
    key = [(name, color) for name, color in colors.items()]
    key += [("others", 0)] if len(by_size) > REASONS else []
    plan = _timed_plan(
        result, "Failures", "Requests a second without an answer, by reason",
        linear([most]), [], hints,
    )  # fmt: skip
    return drawn(
        Plan(plan.title, plan.about, plan.axis, plan.x, plan.y, (), plan.bands, columns, hints, key)
    )


def _queue(result: Result) -> Chart:
    queue = result.series.queue
    lines = [Series("jobs", 4, _timed(result, queue), 0, True)]
    y = linear(value for value in queue if value is not None)
    about = "Jobs that waited in the server's queues, as its metrics say"
    return drawn(_timed_plan(result, "Queues", about, y, lines, []))


def _distribution(title: str, figures: dict[str, Figures]) -> Chart | None:
    found = {
        name: Histogram.decoded(each.latency.hdr)
        for name, each in list(figures.items())[:MOST_LINES]
        if each.latency
    }
    if not found:
        return None
    curves = {name: each.curve() for name, each in found.items()}
    last = [curve[-1][0] for curve in curves.values()]
    x = Percentiles(max(2.0, nines_of(max(last))))
    lines = [
        Series(name, 1 + n % COLORS, curve, 0, len(found) == 1)
        for n, (name, curve) in enumerate(curves.items())
    ]
    y = Log.around([value for curve in curves.values() for _, value in curve])
    about = "The time within which so many percent of the requests were answered"
    return drawn(Plan(title, about, "percentile", x, y, lines))


def _timed_plan(
    result: Result,
    title: str,
    about: str,
    y: Log | Linear,
    lines: Sequence[Series],
    hints: Sequence[Hint],
) -> Plan:
    end = max(result.series.interval * len(result.series.due), 1.0)
    bands = [
        Band(phase.begin, phase.begin + phase.seconds, phase.name, phase.warm_up)
        for phase in result.phases
    ]
    return Plan(title, about, "time", clock(end), y, lines, bands, (), hints)


def _timed(result: Result, values: Sequence[float | None]) -> list[tuple[float, float | None]]:
    width = result.series.interval
    return [((n + 0.5) * width, value) for n, value in enumerate(values)]


def _intervals(result: Result) -> Iterator[tuple[int, float, float]]:
    width = result.series.interval
    for number in range(len(result.series.due)):
        yield number, number * width, (number + 1) * width
