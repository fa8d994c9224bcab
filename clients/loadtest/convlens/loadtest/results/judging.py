"""Looks at limits when a run is over."""

import math
import operator
from collections.abc import Callable, Sequence

from convlens.loadtest.results.histogram import Histogram
from convlens.loadtest.results.limits import Limit, Quantity
from convlens.loadtest.results.model import PERCENTILES, Figures, Result, Times, Verdict
from convlens.loadtest.results.words import rate, seconds, share

OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}
SHOWN = {"time": seconds, "rate": rate, "share": share}


class Nothing(Exception):
    """A quantity that the run did not find; the text says why."""


def verdict(limit: Limit, result: Result) -> Verdict:
    """Whether a limit holds; one on what was not found does not."""
    show = SHOWN[limit.quantity.dimension]
    text = f"{'/'.join(limit.quantity.scope)}: " if limit.quantity.scope else ""
    name = limit.text if ":" in limit.text or "/" in limit.text else f"{text}{limit.text}"
    try:
        found = value_of(limit.quantity, result)
        allowed = limit.number
        if limit.reference is not None:
            allowed *= value_of(limit.reference, result)
    except Nothing as error:
        return Verdict(limit=name, holds=False, found="–", words=str(error))
    holds = OPERATORS[limit.operator](found, allowed)
    return Verdict(
        limit=name,
        holds=holds,
        found=show(found),
        words=f"it is {show(found)}, and must be {limit.operator} {show(allowed)}",
    )


def value_of(quantity: Quantity, result: Result) -> float:
    """A figure of a result; Nothing where it has none."""
    phase = next((name for name in quantity.scope if result.phase(name)), "")
    ran = result.phase(phase)
    part = next((name for name in quantity.scope if name != phase), "")
    if quantity.metric == "peak":
        found = ran.peak if ran else result.peak
        if found is None:
            raise Nothing("no peak was found, since no phase has steps that ended")
        return found
    if quantity.metric == "recovery":
        if ran is None or ran.recovered is None:
            raise Nothing(f"{'/'.join(quantity.scope)} does not follow a phase with more load")
        return math.inf if ran.recovery is None else ran.recovery
    if quantity.metric == "lateness":
        times = (ran or result).generator.lateness
        return _of_times(times, "p99", "nothing was sent")
    return _of_figures(_figures(result, phase, part, quantity), quantity)


def _figures(result: Result, phase: str, part: str, quantity: Quantity) -> Figures:
    ran = result.phase(phase) if phase else None
    whole = (ran.figures if ran else result.total) if not part else None
    calls, tenants = (ran.calls, ran.tenants) if ran else (result.calls, result.tenants)
    found = whole or calls.get(part) or tenants.get(part)
    if found is None:
        raise Nothing(f"there was nothing of {'/'.join(quantity.scope)} in this run")
    return found


def _of_figures(found: Figures, quantity: Quantity) -> float:
    if not found.due:
        raise Nothing("nothing was due")
    metric = quantity.metric
    if metric in ("goodput", "throughput", "offered"):
        return getattr(found, metric)
    if metric == "errors":
        reasons = {**found.reasons, **found.broken}
        count = found.failed + found.unsent + found.incomplete
        return (reasons.get(quantity.reason, 0) if quantity.reason else count) / found.due
    if metric in ("late", "good"):
        return getattr(found, metric) / found.due
    return _of_times(found.latency, metric, "nothing was answered")


def _of_times(times: Times | None, metric: str, why: str) -> float:
    if times is None:
        raise Nothing(why)
    field = metric.replace(".", "_")
    if field in PERCENTILES or field in ("mean", "min", "max"):
        return getattr(times, field)
    [found] = Histogram.decoded(times.hdr).percentiles([float(metric[1:])])
    return found


def verdicts(limits: Sequence[Limit], result: Result) -> list[Verdict]:
    """All of them."""
    return [verdict(limit, result) for limit in limits]
