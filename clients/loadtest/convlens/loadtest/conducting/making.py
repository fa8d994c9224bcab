"""Makes the result of a run from what was tallied."""

import importlib.metadata
import os
import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from convlens.loadtest.conducting.conductor import Conductor, Done
from convlens.loadtest.conducting.figures import figures, generator, recovery, series
from convlens.loadtest.conducting.server_metrics import Metrics
from convlens.loadtest.conducting.setup import Asked
from convlens.loadtest.conducting.tally import Tally
from convlens.loadtest.generator.orders import Orders
from convlens.loadtest.results.model import Figures, PhaseResult, Result, Step


@dataclass(frozen=True, slots=True)
class Ran:
    """All that is known of a run when it is over."""

    asked: Asked
    orders: Orders
    tally: Tally
    conductor: Conductor
    metrics: Metrics
    started: datetime
    seconds: float
    ended_early: str


def result_of(ran: Ran, networks: Sequence[str], warnings: Sequence[str]) -> Result:
    """The result, whose limits have not been looked at yet."""
    asked, tally, conductor = ran.asked, ran.tally, ran.conductor
    phases = [_phase(ran, number) for number, done in enumerate(conductor.done) if done.stages]
    measured = [stage for done in conductor.done if not done.phase.warm_up for stage in done.stages]
    total = generator(tally, measured)
    epoch = conductor.epoch
    return Result(
        version=importlib.metadata.version("convlens-loadtest"),
        scenario=asked.source.name,
        about=asked.scenario.about,
        text=asked.source.text,
        command=asked.command,
        started=ran.started.isoformat(timespec="seconds"),
        seconds=ran.seconds,
        servers=list(asked.servers),
        networks=list(networks),
        processes=ran.orders.processes,
        machine=machine(),
        total=figures(tally, measured),
        calls=_by_call(ran, measured),
        tenants=_by_tenant(ran, measured),
        phases=phases,
        peak=conductor.peak,
        generator=total,
        server=ran.metrics.between(epoch, epoch + ran.seconds),
        series=series(tally, ran.metrics.queue_between(epoch)),
        sentences=tally.sentences,
        verdicts=[],
        warnings=list(_warnings(ran, warnings, total.bottleneck)),
        ended_early=ran.ended_early,
    )


def machine() -> dict[str, str]:
    """What the load processes ran on."""
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cores": str(os.cpu_count() or 0),
        "python": platform.python_version(),
        "grpcio": importlib.metadata.version("grpcio"),
    }


def _phase(ran: Ran, number: int) -> PhaseResult:
    tally, conductor = ran.tally, ran.conductor
    done = conductor.done[number]
    first, last = tally.stages[done.stages[0]].stage, tally.stages[done.stages[-1]].stage
    follows = _has_more_load(ran, number)
    recovered_after = recovery(tally.stages[done.stages[0]]) if follows else None
    return PhaseResult(
        name=done.phase.name,
        kind=_kind(done),
        warm_up=done.phase.warm_up,
        begin=first.begin - conductor.epoch,
        seconds=last.end - first.begin,
        figures=figures(tally, done.stages),
        calls=_by_call(ran, done.stages),
        tenants=_by_tenant(ran, done.stages),
        steps=list(_steps(ran, done)),
        peak=done.peak,
        saturating=done.saturating,
        recovery=recovered_after,
        recovered=recovered_after is not None if follows else None,
        server=ran.metrics.between(first.begin, last.end),
        generator=generator(tally, done.stages),
    )


def _kind(done: Done) -> str:
    phase = done.phase
    kinds = {"steps": phase.steps, "open": phase.open, "closed": phase.closed}
    return " + ".join(name for name, load in kinds.items() if load)


def _has_more_load(ran: Ran, number: int) -> bool:
    """Whether the phase before brought more than was taken, and this one brings less."""
    if not number:
        return False
    before, this = (ran.conductor.done[n] for n in (number - 1, number))
    if before.phase.steps or this.phase.steps or not (before.stages and this.stages):
        return False
    heavy, light = (figures(ran.tally, each.stages) for each in (before, this))
    return light.offered < heavy.offered and heavy.good < heavy.due


def _steps(ran: Ran, done: Done) -> Iterator[Step]:
    for stage, (rate, saturated) in zip(done.stages, done.steps, strict=False):
        yield Step(
            rate=rate,
            begin=ran.tally.stages[stage].stage.begin - ran.conductor.epoch,
            saturated=saturated,
            figures=figures(ran.tally, [stage]),
            generator=generator(ran.tally, [stage]),
        )


def _by_call(ran: Ran, stages: Sequence[int]) -> dict[str, Figures]:
    found = {
        call.name: figures(ran.tally, stages, lambda key, n=number: key[1] == n)
        for number, call in enumerate(ran.orders.calls)
    }
    return {name: each for name, each in found.items() if each.due}


def _by_tenant(ran: Ran, stages: Sequence[int]) -> dict[str, Figures]:
    if not ran.asked.scenario.tenants:
        return {}
    return {
        caller.name: figures(ran.tally, stages, lambda key, n=number: key[2] == n)
        for number, caller in enumerate(ran.orders.callers)
    }


def _warnings(ran: Ran, found: Sequence[str], bottleneck: str) -> Iterator[str]:
    yield from found
    if bottleneck:
        yield (
            f"The load generator was the bottleneck: {bottleneck}. The latencies are in part its "
            "own; give it more --processes or cores, or less to send."
        )
    if ran.metrics.trouble:
        yield f"Metrics were missing for a while. {ran.metrics.trouble}"
    if ran.ended_early:
        yield f"The run ended before its time: {ran.ended_early}."
