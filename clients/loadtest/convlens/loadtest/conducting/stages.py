"""Makes stages of the phases of a scenario."""

from collections.abc import Iterator

from convlens.loadtest.generator.orders import ClosedLoad, OpenLoad
from convlens.loadtest.scenario import Phase, Ramp, Scenario
from convlens.loadtest.traffic.arrivals import Course


def loads_of(
    scenario: Scenario, phase: Phase, peak: float | None, step: Course | None = None
) -> Iterator[OpenLoad | ClosedLoad]:
    """The loads of a phase; `step` is the one of its steps, where it has some."""
    usual = {name: call.weight for name, call in scenario.calls.items()}
    if phase.steps and step:
        yield OpenLoad(step, phase.steps.arrivals, phase.steps.mix or usual)
    if phase.open and phase.duration:
        course = _course(phase, peak)
        yield OpenLoad(course, phase.open.arrivals, phase.open.mix or usual)
    if phase.closed:
        closed = phase.closed
        yield ClosedLoad(closed.callers, closed.think_time, closed.think, closed.mix or usual)


def _course(phase: Phase, peak: float | None) -> Course:
    assert phase.open and phase.duration
    rate = phase.open.rate
    start, end = (rate.start, rate.end) if isinstance(rate, Ramp) else (rate, rate)
    return Course(start.per_second(peak), end.per_second(peak), phase.duration)
