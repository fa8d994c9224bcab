"""Compares the figures of two results."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

from convlens.loadtest.results.model import Figures, Result
from convlens.loadtest.results.words import rate, seconds, share

TIMES = ("p50", "p90", "p99", "p99_9")
# Requests below which a percentile says too little to be called worse.
FEWEST = {"p50": 10, "p90": 50, "p99": 200, "p99_9": 2000}


@dataclass(frozen=True, slots=True)
class Difference:
    """A figure in both results; `change` above 0 is worse, as a share of the first."""

    part: str
    metric: str
    before: str
    after: str
    change: float
    #: There is too little to it: so few requests that it may be chance.
    is_thin: bool


def differences(before: Result, after: Result) -> Iterator[Difference]:
    """Every figure that both have."""
    if before.peak is not None and after.peak is not None:
        yield _rates("all", "peak", before.peak, after.peak)
    for part, one, other in _parts(before, after):
        yield from _of_part(part, one, other)
    for phase in before.phases:
        twin = after.phase(phase.name)
        if twin and phase.recovery is not None and twin.recovery is not None:
            change = twin.recovery - phase.recovery
            share_of = change / phase.recovery if phase.recovery else float(change > 0)
            yield Difference(
                phase.name, "recovery", seconds(phase.recovery), seconds(twin.recovery),
                share_of, False,
            )  # fmt: skip


def misfits(before: Result, after: Result) -> Iterator[str]:
    """Why the two may not be comparable."""
    for name, one, other in (
        ("scenarios", before.scenario, after.scenario),
        ("cores", before.machine.get("cores"), after.machine.get("cores")),
        ("load processes", before.processes, after.processes),
        ("networks", before.networks, after.networks),
    ):
        if one != other:
            yield f"the {name} differ: {_listed(one)} and {_listed(other)}"
    if before.scenario == after.scenario and before.text != after.text:
        yield "the scenario has been changed between them"
    for which, result, twin in (("first", before, after), ("second", after, before)):
        if lone := [phase.name for phase in result.phases if not twin.phase(phase.name)]:
            yield f"the {which} alone has {', '.join(lone)}"
        if result.generator.bottleneck:
            yield f"in the {which} the load generator was the bottleneck"
        if result.ended_early:
            yield f"the {which} ended before its time"


def _parts(before: Result, after: Result) -> Iterator[tuple[str, Figures, Figures]]:
    for phase in before.phases:
        twin = after.phase(phase.name)
        if twin is None or phase.warm_up:
            continue
        yield phase.name, phase.figures, twin.figures
        for ours, theirs in ((phase.calls, twin.calls), (phase.tenants, twin.tenants)):
            for name in ours if len(ours) > 1 else ():
                if name in theirs:
                    yield f"{phase.name}/{name}", ours[name], theirs[name]


def _of_part(part: str, one: Figures, other: Figures) -> Iterator[Difference]:
    if one.offered and other.offered:
        yield _rates(part, "goodput", one.goodput, other.goodput)
    bad = [1 - each.good / each.due if each.due else 0.0 for each in (one, other)]
    yield Difference(part, "not good", share(bad[0]), share(bad[1]), bad[1] - bad[0], False)
    if one.latency and other.latency:
        for name in TIMES:
            first, second = getattr(one.latency, name), getattr(other.latency, name)
            fewest = min(one.latency.count, other.latency.count)
            change = second / first - 1 if first else 0.0
            metric = name.replace("_", ".")
            thin = fewest < FEWEST[name]
            yield Difference(part, metric, seconds(first), seconds(second), change, thin)


def _rates(part: str, metric: str, one: float, other: float) -> Difference:
    change = (one - other) / one if one else 0.0
    return Difference(part, metric, rate(one), rate(other), change, False)


def _listed(value: object) -> str:
    return ", ".join(cast(list[str], value)) if isinstance(value, list) else str(value)
