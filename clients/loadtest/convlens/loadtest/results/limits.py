"""Limits as people write them: "overload/classify: p99 < 200ms", "goodput >= 0.9 * peak"."""

import difflib
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from grpc import StatusCode

from convlens.contract import ErrorReason
from convlens.loadtest.generator.orders import NOT_SENT
from convlens.loadtest.scenario.values import UNITS

Dimension = Literal["time", "rate", "share"]
METRICS: dict[str, Dimension] = {
    **dict.fromkeys(("mean", "min", "max", "recovery", "lateness"), "time"),
    **dict.fromkeys(("goodput", "throughput", "offered", "peak"), "rate"),
    **dict.fromkeys(("errors", "late", "good"), "share"),
}
# Of the whole run or of a phase alone.
OF_PHASES = ("recovery", "lateness", "peak")
NAME = r"[A-Za-z][A-Za-z0-9_-]*"
METRIC = rf"p\d{{1,2}}(?:\.\d+)?|{'|'.join(METRICS)}"


def _quantity(side: str) -> str:
    """What a quantity looks like, with the names of its groups."""
    return (
        rf"(?:(?P<{side}_scope>{NAME}(?:/{NAME})?)\s*[:/]\s*)?"
        rf"(?P<{side}_metric>{METRIC})(?:\[(?P<{side}_reason>[A-Z_]+)\])?"
    )


LIMIT = re.compile(rf"\s*{_quantity('left')}\s*(?P<op><=|>=|==|!=|<|>)\s*(?P<bound>.+?)\s*")
BOUND = re.compile(
    rf"(?:(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>%|/s|us|ms|s|min|m|h)?)?\s*(?P<times>\*)?\s*"
    rf"(?:{_quantity('right')})?"
)
# What may fail: the reasons of the catalogue, gRPC's own codes, and what was never sent.
REASONS = {
    *(name.removeprefix("ERROR_REASON_") for name in ErrorReason.keys()[1:]),
    *(code.name for code in StatusCode if code is not StatusCode.OK),
    NOT_SENT,
}
OPERATORS = ("<", "<=", ">", ">=", "==", "!=")
SHAPE = (
    "write METRIC OPERATOR VALUE, as 'p99 < 200ms', 'errors <= 1%', 'goodput >= 0.9 * peak', or "
    "of a part, as 'overload/classify: p99.9 < 2s'"
)


class BadLimit(Exception):
    """A limit that makes no sense; the text says why, and what would."""


@dataclass(frozen=True, slots=True)
class Quantity:
    """A figure of the run, or of a phase, a call or a tenant, or of one within a phase."""

    scope: Sequence[str]
    metric: str
    reason: str = ""

    @property
    def dimension(self) -> Dimension:
        """What it is measured in."""
        return METRICS.get(self.metric, "time")

    def __str__(self) -> str:
        reason = f"[{self.reason}]" if self.reason else ""
        return "/".join([*self.scope, self.metric]) + reason


@dataclass(frozen=True, slots=True)
class Limit:
    """A quantity, and what it may be: a number, or so many times another quantity."""

    text: str
    quantity: Quantity
    operator: str
    number: float
    reference: Quantity | None


def parse_limit(text: str, within: Sequence[str] = ()) -> Limit:
    """The limit of a text, on a part of the run where it stands `within` one."""
    match = LIMIT.fullmatch(text)
    if match is None:
        raise BadLimit(f"{text!r} is no limit: {_why(text)}; {SHAPE}.")
    scope = tuple(match["left_scope"].split("/")) if match["left_scope"] else ()
    quantity = Quantity((*within, *scope), match["left_metric"], match["left_reason"] or "")
    bound = BOUND.fullmatch(match["bound"])
    if bound is None or (bound["times"] and not (bound["number"] and bound["right_metric"])):
        raise BadLimit(f"{text!r}: {match['bound']!r} is no value; {SHAPE}.")
    if bound["number"] and bound["right_metric"] and not bound["times"]:
        raise BadLimit(f"{text!r}: between a number and a metric there must be a '*'.")
    if bound["right_metric"]:
        return _relative(text, quantity, match["op"], bound)
    return Limit(text, quantity, match["op"], _number(text, quantity, bound), None)


def check_names(
    limit: Limit,
    phases: Collection[str],
    calls: Collection[str],
    tenants: Collection[str],
) -> None:
    """BadLimit where the limit is on what the scenario does not have."""
    for quantity in (limit.quantity, limit.reference):
        if quantity is not None:
            _check_reason(limit.text, quantity)
            _check_scope(limit.text, quantity, phases, calls, tenants)


def _check_reason(text: str, quantity: Quantity) -> None:
    if quantity.reason and quantity.metric != "errors":
        raise BadLimit(f"{text!r}: {quantity.metric} has no reasons; errors[REASON] has.")
    if quantity.reason and quantity.reason not in REASONS:
        near = difflib.get_close_matches(quantity.reason, REASONS, 1)
        meant = f"; did you mean {near[0]}?" if near else "; docs/errors.md has all."
        raise BadLimit(f"{text!r}: there is no reason {quantity.reason}{meant}")


def _check_scope(
    text: str,
    quantity: Quantity,
    phases: Collection[str],
    calls: Collection[str],
    tenants: Collection[str],
) -> None:
    known = [*phases, *calls, *tenants]
    for name in quantity.scope:
        if name not in known:
            raise BadLimit(f"{text!r}: there is no {name!r}; there are {', '.join(known)}.")
    parts = [name for name in quantity.scope if name not in phases]
    if len(parts) > 1 or len(quantity.scope) - len(parts) > 1:
        raise BadLimit(
            f"{text!r}: {'/'.join(quantity.scope)} is of no part; name a phase, a call or a "
            "tenant, or PHASE/CALL or PHASE/TENANT."
        )
    if parts and quantity.metric in OF_PHASES:
        raise BadLimit(f"{text!r}: {quantity.metric} is of a phase or of the run as a whole.")
    if quantity.metric == "recovery" and not quantity.scope:
        raise BadLimit(f"{text!r}: recovery is of a phase; write 'PHASE: recovery < 5s'.")


def _relative(text: str, quantity: Quantity, operator: str, bound: re.Match[str]) -> Limit:
    scope = tuple(bound["right_scope"].split("/")) if bound["right_scope"] else ()
    metric = bound["right_metric"]
    # Without a scope it is of the same part, but the peak, which is of the run.
    own = () if metric == "peak" else quantity.scope
    reference = Quantity(scope or own, metric, bound["right_reason"] or "")
    if bound["unit"] not in (None, "%"):
        raise BadLimit(f"{text!r}: the factor of {metric} has a unit, and must have none.")
    if reference.dimension != quantity.dimension:
        raise BadLimit(
            f"{text!r}: {quantity.metric} is a {quantity.dimension}, and {metric} is a "
            f"{reference.dimension}."
        )
    factor = float(bound["number"] or 1) * (0.01 if bound["unit"] == "%" else 1)
    return Limit(text, quantity, operator, factor, reference)


def _number(text: str, quantity: Quantity, bound: re.Match[str]) -> float:
    number, unit = float(bound["number"]), bound["unit"] or ""
    dimension = quantity.dimension
    allowed = {"time": tuple(UNITS), "rate": ("/s", ""), "share": ("%", "")}[dimension]
    if unit not in allowed:
        units = " or ".join(each or "no unit" for each in allowed)
        given = repr(unit) if unit else "none"
        raise BadLimit(
            f"{text!r}: {quantity.metric} is a {dimension}, which has {units}; given is {given}."
        )
    return number * {**UNITS, "%": 0.01, "/s": 1.0, "": 1.0}[unit]


def _why(text: str) -> str:
    if not any(operator in text for operator in OPERATORS):
        return f"it has no operator ({', '.join(OPERATORS)})"
    return f"metrics are p50, p99, p99.9, …, {', '.join(METRICS)}"
