"""Figures of what was tallied."""

import math
from collections.abc import Callable, Iterable

from convlens.loadtest.conducting.cells import together
from convlens.loadtest.conducting.tally import RECOVERY_PART, StageTally, Tally
from convlens.loadtest.results.histogram import Histogram, merged
from convlens.loadtest.results.model import PERCENTILES, Figures, Generator, Series, Times

# A generator whose worst hundredth is no more than so late, in seconds or as a share of the p99,
# has not made the latencies.
LATE, LATE_SHARE = 0.02, 0.1
LAGGING, BUSY = 0.25, 0.9
# Shares of what was due: what was not sent, and what makes a second a good one.
UNSENT, RECOVERED = 0.005, 0.95
CURVES = ("p50", "p90", "p99")


def times(histogram: Histogram | None, *, whole: bool = True) -> Times | None:
    """The figures of a histogram, with all of it where it is `whole`; None of an empty one."""
    if histogram is None or not histogram.count:
        return None
    found = dict(zip(PERCENTILES, histogram.percentiles(PERCENTILES.values()), strict=True))
    return Times(
        count=histogram.count,
        mean=histogram.mean,
        min=histogram.least,
        max=histogram.most,
        hdr=histogram.encoded() if whole else "",
        **found,
    )


def figures(
    tally: Tally,
    stages: Iterable[int],
    chosen: Callable[[tuple[int, int, int]], bool] = lambda key: True,
) -> Figures:
    """What came of the requests of some stages, and among them of the chosen cells."""
    numbers = sorted(set(stages))
    parts = [
        together(cell for key, cell in tally.cells.items() if key[0] == number and chosen(key))
        for number in numbers
    ]
    seconds = sum(tally.stages[number].stage.seconds for number in numbers)
    came = good = 0
    for number, cell in zip(numbers, parts, strict=True):
        window = cell.in_window(cell.median, tally.stages[number].stage.seconds)
        came, good = came + window[0], good + window[1]
    whole = together(parts)
    return Figures(
        seconds=seconds,
        due=whole.due,
        unsent=whole.unsent,
        answered=whole.answered,
        good=whole.good,
        failed=whole.ended - whole.answered,
        late=whole.answered - whole.good - whole.incomplete,
        incomplete=whole.incomplete,
        attempts=whole.attempts,
        offered=_share(whole.due, seconds),
        throughput=_share(came, seconds),
        goodput=_share(good, seconds),
        reasons=dict(whole.reasons.most_common()),
        broken=dict(whole.broken.most_common()),
        latency=times(whole.latency),
        failures=times(whole.failed),
        first=times(whole.first),
    )


def generator(tally: Tally, stages: Iterable[int]) -> Generator:
    """How the load processes were in some stages, and whether they were the bottleneck."""
    chosen = [tally.stages[number] for number in sorted(set(stages))]
    cells = [cell for key, cell in tally.cells.items() if tally.stages[key[0]] in chosen]
    lateness = times(merged(each.lateness for each in chosen), whole=False)
    latency = times(merged(c.latency for c in cells if c.latency), whole=False)
    slowest = latency.p99 if latency else 0.0
    lag = max((lag for each in chosen for lag in each.lags), default=0.0)
    loops = [share for each in chosen for share in each.busy]
    busy = sum(loops) / len(loops) if loops else 0.0
    unsent, due = sum(cell.unsent for cell in cells), sum(cell.due for cell in cells)
    return Generator(
        lateness=lateness,
        lag=lag,
        busy=busy,
        bottleneck=_bottleneck(lateness, slowest, lag, busy, _share(unsent, due)),
    )


def recovery(tally: StageTally) -> float | None:
    """Seconds until the first second in which enough of what was due had a good answer.

    None where there was none such.
    """
    window = round(1 / RECOVERY_PART)
    last = max(tally.due_at, default=0)
    for first in range(max(1, last - window + 2)):
        due = sum(tally.due_at[first + n] for n in range(window))
        good = sum(tally.good_at[first + n] for n in range(window))
        if due and good >= RECOVERED * due:
            return first * RECOVERY_PART
    return None


def series(tally: Tally, queue: Callable[[float, float], float | None]) -> Series:
    """The curves; `queue` says what the metrics showed between two times of the run."""
    count = max(tally.intervals, default=-1) + 1
    found = [tally.intervals.get(number) for number in range(count)]
    reasons = sorted({name for each in found if each for name in each.reasons})
    percentiles = [
        each.latency.percentiles([50, 90, 99]) if each else [math.nan] * 3 for each in found
    ]
    columns = {name: [_number(row[n]) for row in percentiles] for n, name in enumerate(CURVES)}
    width = tally.interval
    return Series(
        interval=width,
        due=[each.due if each else 0 for each in found],
        good=[each.good if each else 0 for each in found],
        came=[each.came if each else 0 for each in found],
        max=[_number(each.latency.most) if each else None for each in found],
        reasons={name: [each.reasons[name] if each else 0 for each in found] for name in reasons},
        queue=[queue(number * width, (number + 1) * width) for number in range(count)],
        **columns,
    )


def _bottleneck(
    lateness: Times | None, slowest: float, lag: float, busy: float, unsent: float
) -> str:
    found = list[str]()
    if unsent > UNSENT:
        found.append(f"{100 * unsent:.1f} % of what was due could not be sent")
    if lateness and lateness.p99 > max(LATE, LATE_SHARE * slowest):
        found.append(f"1 % was sent more than {lateness.p99 * 1e3:.0f} ms late")
    if busy > BUSY:
        found.append(f"its loops used {100 * busy:.0f} % of a core each")
    if found and lag > LAGGING:
        found.append(f"a loop once stood still for {lag * 1e3:.0f} ms")
    return "; ".join(found)


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0
