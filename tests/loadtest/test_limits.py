"""Limits: what they may say, and whether they hold."""

import pytest

from convlens.loadtest.results.histogram import Histogram
from convlens.loadtest.results.judging import verdict
from convlens.loadtest.results.limits import BadLimit, check_names, parse_limit
from tests.loadtest.results import result_with, some_figures


@pytest.mark.parametrize(
    ("text", "holds", "found"),
    [
        ("p50 < 51ms", True, "50 ms"),
        ("p50 < 49ms", False, "50 ms"),
        ("p97 <= 97.1ms", True, "97 ms"),
        ("max < 1s", True, "100 ms"),
        ("mean > 50ms", True, "50.5 ms"),
        ("errors <= 10%", True, "10 %"),
        ("errors < 10%", False, "10 %"),
        ("errors[OVERLOADED] == 7%", True, "7 %"),
        ("errors[QUEUE_FULL] == 0%", True, "0 %"),
        ("good >= 90%", True, "90 %"),
        ("late == 0%", True, "0 %"),
        ("goodput >= 9/s", True, "9/s"),
        ("goodput >= 0.9 * peak", True, "9/s"),
        ("goodput >= 91% * peak", False, "9/s"),
        ("peak == 10", True, "10/s"),
        ("rush: p50 <= 2 * p50", True, "50 ms"),
        ("rush/classify: p99 <= 1.1 * calm/p99", True, "99 ms"),
        ("rush: recovery < 2s", True, "1.5 s"),
        ("calm: recovery < 2s", False, "–"),
        ("rush/shop: p50 < 1s", False, "–"),
    ],
)
def test_limits(text: str, holds: bool, found: str) -> None:
    seen = verdict(parse_limit(text), result_with())
    assert (seen.holds, seen.found) == (holds, found), seen
    assert seen.limit == text


def test_a_limit_stands_within_a_part() -> None:
    assert verdict(parse_limit("p50 < 1s", ("rush",)), result_with()).limit == "rush: p50 < 1s"
    lost = verdict(parse_limit("p50 < 1s", ("later",)), result_with())
    assert not lost.holds and "nothing of later" in lost.words


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("p99", "no operator"),
        ("p99 < 3", "is a time, which has us or ms or s"),
        ("p99 < 3/s", "given is '/s'"),
        ("goodput > 3ms", "is a rate"),
        ("errors < 1ms", "is a share"),
        ("speed < 3", "metrics are p50"),
        ("p99 < 2 peak", "there must be a '*'"),
        ("p99 < 2 * peak", "p99 is a time, and peak is a rate"),
        ("p99 < 2s * p50", "has a unit"),
        ("p99 < much", "is no value"),
        ("p99 < 1s; import os", "is no value"),
        ("p99 < __import__('os')", "is no value"),
    ],
)
def test_what_is_no_limit_is_said(text: str, said: str) -> None:
    with pytest.raises(BadLimit) as raised:
        parse_limit(text)
    assert said in str(raised.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("rash: p99 < 1s", "there is no 'rash'; there are calm, rush, classify, shop"),
        ("calm/rush: p99 < 1s", "is of no part"),
        ("classify/shop: p99 < 1s", "is of no part"),
        ("classify: recovery < 1s", "of a phase or of the run"),
        ("recovery < 1s", "recovery is of a phase"),
        ("errors[OVERLOADD] == 0%", "there is no reason OVERLOADD; did you mean OVERLOADED?"),
        ("p99[OVERLOADED] < 1s", "p99 has no reasons; errors[REASON] has"),
        ("p99 < 2 * rash/p99", "there is no 'rash'"),
    ],
)
def test_limits_are_on_what_there_is(text: str, said: str) -> None:
    with pytest.raises(BadLimit) as raised:
        check_names(parse_limit(text), ["calm", "rush"], ["classify"], ["shop"])
    assert said in str(raised.value)


@pytest.mark.parametrize("reason", ["OVERLOADED", "NOT_SENT", "UNAVAILABLE"])
def test_every_reason_may_be_limited(reason: str) -> None:
    check_names(parse_limit(f"errors[{reason}] < 1%"), [], [], [])


def test_a_histogram_comes_back_from_its_text() -> None:
    times = some_figures().latency
    assert times is not None
    back = Histogram.decoded(times.hdr)
    assert (back.count, back.most) == (100, pytest.approx(0.1, rel=1e-3))
    assert back.percentiles([50, 99.9]) == pytest.approx([0.05, 0.1], rel=1e-3)
