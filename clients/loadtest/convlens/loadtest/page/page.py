"""Makes the page of a result: one HTML file that needs no other."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from convlens.client.cli import _templates as templates
from convlens.loadtest.page.plans import distributions, over_time, saturation
from convlens.loadtest.results.model import Figures, PhaseResult, Result, Server
from convlens.loadtest.results.words import count, rate, seconds, share

if TYPE_CHECKING:
    from jinja2 import Environment

FOLDER = files("convlens.loadtest.page")


@dataclass(frozen=True, slots=True)
class Fact:
    """A figure that is written large, with what it is."""

    value: str
    name: str
    about: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table of numbers; `depth` 1 is a part of the one above."""

    name: str
    depth: int
    cells: Sequence[str]


@dataclass(frozen=True, slots=True)
class Slice:
    """A stage of the server, as a share of all of them."""

    name: str
    share: float
    color: int
    mean: str
    p50: str
    p99: str


@dataclass(frozen=True, slots=True)
class Pool:
    """The stages of a pool of the server."""

    name: str
    whole: str
    jobs: str
    slices: Sequence[Slice]


def page_of(result: Result) -> str:
    """The whole file."""
    steps = [phase for phase in result.phases if phase.steps]
    return (
        _environment()
        .get_template("loadtest.html.j2")
        .render(
            result=result,
            title=_title(result),
            made=datetime.fromisoformat(result.started).strftime("%-d %B %Y, %H:%M %Z").strip(),
            facts=list(_facts(result)),
            times=list(over_time(result)),
            distributions=list(distributions(result)),
            saturations=[(phase, list(saturation(phase))) for phase in steps],
            pools=list(_pools(result.server)) if result.server else [],
            rows=list(_rows(result)),
            reasons=list(_reasons(result)),
            measured=list(_measured(result)),
            style=templates.text_of("report.css")
            + templates.text_of("chart.css")
            + templates.text_of("robustness.css")
            + (FOLDER / "loadtest.css").read_text(encoding="utf-8"),
        )
    )


def _title(result: Result) -> str:
    name = result.scenario.rpartition("/")[2].removesuffix(".yaml").removesuffix(".yml")
    return name.replace("-", " ").capitalize()


def _facts(result: Result) -> Iterator[Fact]:
    total = result.total
    if result.peak is not None:
        yield Fact(rate(result.peak), "at the peak", "good answers a second")
    for phase in result.phases:
        if result.peak and not phase.steps and phase.figures.offered > 1.5 * result.peak:
            kept = phase.figures.goodput / result.peak
            times = phase.figures.offered / result.peak
            about = f"of the peak, under {times:.1f} times that"
            yield Fact(share(round(kept, 3)), phase.name, about)
        if phase.recovered is not None:
            yield Fact(seconds(phase.recovery if phase.recovered else float("inf")),
                       phase.name, "until answers were good again")  # fmt: skip
    if result.peak is None:
        yield Fact(rate(total.goodput), "good answers", f"of {rate(total.offered)} offered")
    good = total.good / total.due if total.due else None
    if total.latency:
        yield Fact(seconds(total.latency.p50), "p50", "of all answers")
        yield Fact(seconds(total.latency.p99), "p99", "of all answers")
    yield Fact(share(good), "good", f"of {count(total.due)} requests")


def _pools(server: Server) -> Iterator[Pool]:
    for pool in dict.fromkeys(each.pool for each in server.stages):
        own = [each for each in server.stages if each.pool == pool]
        whole = sum(each.mean for each in own) or 1.0
        slices = [
            Slice(each.stage, each.mean / whole, 1 + n % 6,
                  seconds(each.mean), seconds(each.p50), seconds(each.p99))
            for n, each in enumerate(own)
        ]  # fmt: skip
        yield Pool(pool, seconds(whole), count(max(each.count for each in own)), slices)


def _rows(result: Result) -> Iterator[Row]:
    for phase in result.phases:
        yield _row(phase.name + (" (not counted)" if phase.warm_up else ""), 0, phase.figures)
        yield from _parts(phase)
    if sum(not phase.warm_up for phase in result.phases) > 1:
        yield _row("All", 0, result.total)


def _parts(phase: PhaseResult) -> Iterator[Row]:
    groups: Sequence[Mapping[str, Figures]] = (phase.calls, phase.tenants)
    for group in groups:
        for name, figures in group.items() if len(group) > 1 else ():
            yield _row(name, 1, figures)


def _row(name: str, depth: int, found: Figures) -> Row:
    times = found.latency
    percentiles = [times.p50, times.p90, times.p99, times.p99_9, times.max] if times else [None] * 5
    good = found.good / found.due if found.due else None
    cells = [count(found.due), share(good), rate(found.goodput)]
    return Row(name, depth, [*cells, *(seconds(each) for each in percentiles)])


def _reasons(result: Result) -> Iterator[tuple[str, str, str]]:
    total = result.total
    for reasons, what in ((total.reasons, "requests"), (total.broken, "parts of answers")):
        for reason, number in reasons.items():
            words = result.sentences.get(reason, "")
            if reason == "NOT_SENT":
                words = "Was due, and could not be sent: the load generator had too much to do."
            yield reason, f"{count(number)} {what}", words


def _measured(result: Result) -> Iterator[tuple[str, str]]:
    """How the figures came about."""
    generator = result.generator
    yield "servers", ", ".join(result.servers)
    if result.networks:
        yield "networks", ", ".join(result.networks)
    yield "duration", seconds(result.seconds)
    yield "load processes", str(result.processes)
    if generator.lateness:
        late = generator.lateness
        yield "sent late by (p50, p99)", f"{seconds(late.p50)}, {seconds(late.p99)}"
    yield "loop of a load process", f"{share(round(generator.busy, 3))} of a core"
    yield from result.machine.items()
    yield "version", f"convlens-loadtest {result.version}"


@cache
def _environment() -> "Environment":
    # Takes some 30 ms to import, which only who makes a page shall wait for.
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    def text(name: str) -> str:
        return (FOLDER / name).read_text(encoding="utf-8")

    environment: Any = Environment(
        loader=FunctionLoader(text),
        # Names and sentences are whatever a scenario or a server says.
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment
