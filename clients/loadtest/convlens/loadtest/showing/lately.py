"""What happened in the last seconds."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from convlens.loadtest.conducting.tally import LATELY, Tally
from convlens.loadtest.generator.orders import ClosedLoad, OpenLoad, Stage
from convlens.loadtest.results.words import digits, rate


@dataclass(frozen=True, slots=True)
class Lately:
    """Rates a second, times in seconds; NaN where there are none."""

    ended: float
    good: float
    failed: float
    p50: float
    p99: float
    in_flight: int
    busy: float


def lately(tally: Tally) -> Lately:
    """What came to its end in the last seconds."""
    in_flight = sum(vitals.in_flight for vitals in tally.vitals.values())
    busy = max((vitals.busy for vitals in tally.vitals.values()), default=0.0)
    if not tally.lately:
        return Lately(0, 0, 0, np.nan, np.nan, in_flight, busy)
    rows = np.concatenate([each for _, each in tally.lately])
    seconds = min(LATELY, max(0.25, time.monotonic() - tally.lately[0][0] + 0.25))
    answered = rows["reason"] == 0
    latency = rows["latency"][answered]
    p50, p99 = np.percentile(latency, [50, 99]) if latency.size else (np.nan, np.nan)
    return Lately(
        len(rows) / seconds,
        float(tally.good(rows).sum()) / seconds,
        float((~answered).sum()) / seconds,
        float(p50),
        float(p99),
        in_flight,
        busy,
    )


def loads_in_words(loads: Sequence[OpenLoad | ClosedLoad]) -> str:
    """ "50/s", "10/s to 100/s", "16 callers", or both of them."""
    return " and ".join(_load(each) for each in loads)


def _load(load: OpenLoad | ClosedLoad) -> str:
    if isinstance(load, ClosedLoad):
        return f"{load.callers} caller{'s' if load.callers > 1 else ''}"
    start, end = load.course.start, load.course.end
    return rate(start) if start == end else f"{digits(start)}/s to {digits(end)}/s"


def offered_now(stage: Stage, now: float) -> float | None:
    """Requests a second that are due now, where an open loop says it."""
    for load in stage.loads:
        if isinstance(load, OpenLoad):
            course = load.course
            part = min(1.0, max(0.0, (now - stage.begin) / stage.seconds))
            return course.start + (course.end - course.start) * part
    return None
