"""A result made by hand: 100 answers that took 1 ms to 100 ms, beside 10 failures a 100."""

import numpy as np

from convlens.loadtest.conducting.figures import times
from convlens.loadtest.results.histogram import Histogram
from convlens.loadtest.results.model import Figures, Generator, PhaseResult, Result, Series

QUIET = Generator(lateness=None, lag=0, busy=0.1, bottleneck="")


def some_figures(scale: float = 1.0, goodput: float = 9.0) -> Figures:
    """100 answers of 1 to 100 ms times `scale`, of which 90 of 100 that were due are good."""
    histogram = Histogram()
    histogram.record(np.arange(1, 101) / 1000 * scale)
    return Figures(
        seconds=10,
        due=100,
        unsent=0,
        answered=90,
        good=90,
        failed=10,
        late=0,
        incomplete=0,
        attempts=100,
        offered=10,
        throughput=9,
        goodput=goodput,
        reasons={"OVERLOADED": 7, "INTERNAL": 3},
        broken={},
        latency=times(histogram),
        failures=None,
        first=None,
    )


def phase(name: str, scale: float = 1.0, recovery: float | None = None) -> PhaseResult:
    """A phase with one call."""
    figures = some_figures(scale)
    return PhaseResult(
        name=name,
        kind="open",
        warm_up=False,
        begin=0,
        seconds=10,
        figures=figures,
        calls={"classify": figures},
        tenants={},
        steps=[],
        peak=None,
        saturating=None,
        recovery=recovery,
        recovered=True if recovery is not None else None,
        server=None,
        generator=QUIET,
    )


def result_with(scale: float = 1.0, goodput: float = 9.0) -> Result:
    """Two phases, whose peak was 10 a second."""
    figures = some_figures(scale, goodput)
    return Result(
        version="0.1.0",
        scenario="mine",
        about="",
        text="calls: {}",
        command="",
        started="2026-11-22T10:00:00+00:00",
        seconds=20,
        servers=["127.0.0.1:1"],
        networks=["shapes@1"],
        processes=1,
        machine={"cores": "2"},
        total=figures,
        calls={"classify": figures},
        tenants={},
        phases=[phase("calm", scale), phase("rush", scale, recovery=1.5)],
        peak=10,
        generator=QUIET,
        server=None,
        series=Series(
            interval=1, due=[], good=[], came=[], p50=[], p90=[], p99=[], max=[], reasons={},
            queue=[],
        ),
        sentences={},
        verdicts=[],
        warnings=[],
        ended_early="",
    )  # fmt: skip
