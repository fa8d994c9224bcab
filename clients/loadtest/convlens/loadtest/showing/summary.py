"""What a run came to, in a terminal."""

from collections.abc import Iterator, Mapping

from rich.console import Console
from rich.table import Table
from rich.text import Text

from convlens.loadtest.results.model import Figures, PhaseResult, Result
from convlens.loadtest.results.words import count, rate, seconds, share

COLUMNS = ("", "due", "good", "rate", "p50", "p90", "p99", "p99.9", "max")
# Reasons whose sentence is told.
REASONS = 6


def print_summary(result: Result, console: Console) -> None:
    """Prints tables of what came, and what limits say."""
    console.print(_requests(result))
    for phase in result.phases:
        for line in _of_phase(phase):
            console.print(line, highlight=False)
    if result.server and result.server.stages:
        console.print(_server(result))
    for line in _failures(result):
        console.print(line, highlight=False)
    for warning in result.warnings:
        console.print(Text(warning, "yellow"), highlight=False)
    for verdict in result.verdicts:
        style = "green" if verdict.holds else "bold red"
        mark = "holds" if verdict.holds else "broken"
        console.print(
            Text.assemble((mark.ljust(7), style), f" {verdict.limit}  ", (verdict.words, "dim")),
            highlight=False,
        )


def _requests(result: Result) -> Table:
    table = _table(COLUMNS)
    for phase in result.phases:
        name = Text(phase.name, "bold")
        if phase.warm_up:
            name.append(" (not counted)", "dim")
        _add(table, name, phase.figures)
        if len(phase.calls) > 1:
            _add_all(table, phase.calls)
        if len(phase.tenants) > 1:
            _add_all(table, phase.tenants)
    measured = [phase for phase in result.phases if not phase.warm_up]
    if len(measured) > 1:
        table.add_section()
        _add(table, Text("all", "bold"), result.total)
    return table


def _add_all(table: Table, parts: Mapping[str, Figures]) -> None:
    for name, figures in parts.items():
        _add(table, Text(f"  {name}"), figures)


def _add(table: Table, name: Text, found: Figures) -> None:
    times = found.latency
    percentiles = [times.p50, times.p90, times.p99, times.p99_9, times.max] if times else [None] * 5
    good = found.good / found.due if found.due else None
    style = "" if good is None or good >= 0.999 else "yellow"
    table.add_row(
        name,
        count(found.due),
        Text(share(good), style),
        rate(found.goodput),
        *(seconds(each) for each in percentiles),
    )


def _of_phase(phase: PhaseResult) -> Iterator[Text]:
    if phase.peak is not None:
        first = phase.saturating
        until = f", and {rate(first)} is too much" if first else ", and no step was too much"
        yield Text(f"{phase.name}: the peak is {rate(phase.peak)} good answers{until}.")
    if phase.recovered is False:
        yield Text(f"{phase.name}: answers did not become good again.", "red")
    elif phase.recovery is not None:
        yield Text(f"{phase.name}: answers were good again after {seconds(phase.recovery)}.")


def _server(result: Result) -> Table:
    assert result.server
    table = _table(("in the server", "jobs", "mean", "p50", "p99"))
    for each in result.server.stages:
        table.add_row(
            f"{each.pool}: {each.stage}",
            count(each.count),
            *(seconds(value) for value in (each.mean, each.p50, each.p99)),
        )
    return table


def _failures(result: Result) -> Iterator[Text]:
    total = result.total
    for reasons, what in ((total.reasons, ""), (total.broken, " (parts of answers)")):
        for reason, number in list(reasons.items())[:REASONS]:
            sentence = result.sentences.get(reason, "")
            yield Text.assemble((f"{count(number)} {reason}{what}", "red"), f"  {sentence}")


def _table(columns: tuple[str, ...]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for number, title in enumerate(columns):
        table.add_column(title, justify="right" if number else "left", no_wrap=True)
    return table
