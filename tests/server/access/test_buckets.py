"""Quotas over time, with a clock of our own."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convlens.contract import Failure
from convlens.contract.errors import reason_name
from convlens.server.access.buckets import Bucket
from convlens.server.access.callers import ANYBODY, Account, Caller
from convlens.server.access.tokens import Token
from convlens.server.contract import RPCS


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_burst_and_then_the_rate(clock: Clock) -> None:
    bucket = Bucket(2.0, 3.0, clock)
    assert [bucket.take(1) for _ in range(4)] == [0, 0, 0, 0.5]
    clock.now += 0.5
    assert [bucket.take(1), bucket.take(1)] == [0, 0.5]
    clock.now += 1000
    assert [bucket.take(1) for _ in range(4)] == [0, 0, 0, 0.5]


def test_more_than_the_burst_is_taken_from_a_full_bucket_and_paid_back(clock: Clock) -> None:
    bucket = Bucket(10.0, 100.0, clock)
    assert bucket.take(1) == 0
    assert bucket.take(1000) == pytest.approx(0.1)
    clock.now += 0.1
    assert bucket.take(1000) == 0
    assert bucket.take(1) == pytest.approx(90.1)


def test_what_is_borrowed_is_waited_for(clock: Clock) -> None:
    bucket = Bucket(4.0, 1.0, clock)
    assert [bucket.borrow(1) for _ in range(3)] == [0, 0.25, 0.5]
    clock.now += 0.5
    assert bucket.borrow(1) == 0.25


def test_other_limits_forgive_nothing(clock: Clock) -> None:
    bucket = Bucket(1.0, 10.0, clock)
    assert bucket.take(10) == 0
    bucket.change(1.0, 10.0)
    assert bucket.take(1) == 1
    bucket.change(2.0, 12.0)
    assert [bucket.take(2), bucket.take(1)] == [0, 0.5]
    clock.now += 1000
    bucket.change(2.0, 1.0)
    assert [bucket.take(1), bucket.take(1)] == [0, 0.5]


@given(
    rate=st.floats(0.01, 1e4),
    burst=st.floats(1, 1e4),
    steps=st.lists(st.tuples(st.floats(0, 100), st.floats(0.01, 2e4)), max_size=40),
)
def test_in_the_long_run_the_rate_holds(
    rate: float, burst: float, steps: list[tuple[float, float]]
) -> None:
    clock = Clock()
    bucket, taken = Bucket(rate, burst, clock), 0.0
    for pause, amount in steps:
        clock.now += pause
        most = burst + rate * (clock.now - 1000) + max(amount - burst, 0)
        if wait := bucket.take(amount):
            clock.now += wait
            most += rate * wait
            assert bucket.take(amount) == 0, "the time that was told suffices"
        taken += amount
        assert taken <= most * (1 + 1e-6) + 1e-6


def refusal(take: Callable[[], object]) -> Failure:
    with pytest.raises(Failure) as caught:
        take()
    return caught.value


def test_passes_are_charged_and_refused_with_the_time_to_wait(clock: Clock) -> None:
    entry = Token.model_validate(
        {"name": "lab", "sha256": "0" * 64, "scopes": ["attack"], "passes_per_second": 50}
    )
    caller = Caller("lab", entry.scopes, True, Account(entry, clock=clock), "0" * 64)
    caller.charge(400)
    caller.charge(100)
    failure = refusal(lambda: caller.charge(7))
    assert reason_name(failure.reason) == "QUOTA_EXCEEDED"
    assert failure.metadata == {"quota": "50 passes per second"}
    assert failure.retry_after == 0.14
    clock.now += failure.retry_after or 0
    caller.charge(7)
    # Requests are not limited by it.
    assert caller.account
    caller.account.take_request()


def test_the_delay_is_rounded_up_to_what_travels(clock: Clock) -> None:
    entry = Token.model_validate(
        {"name": "lab", "sha256": "0" * 64, "scopes": ["attack"], "requests_per_second": 3}
    )
    one = Account(entry, clock=clock)
    for _ in range(3):
        one.take_request()
    failure = refusal(one.take_request)
    assert failure.retry_after == 0.334
    assert "3 requests per second" in str(failure)


def test_a_debt_of_ages_is_told_as_a_year(clock: Clock) -> None:
    entry = Token.model_validate(
        {"name": "lab", "sha256": "0" * 64, "scopes": ["attack"], "passes_per_second": 1e-6}
    )
    one = Account(entry, clock=clock)
    one.take_passes(10**12)
    failure = refusal(lambda: one.take_passes(1))
    assert failure.retry_after == 365 * 86_400
    # It fits into a RetryInfo.
    assert failure.status().details


def test_where_no_tokens_are_asked_for_nothing_is_charged() -> None:
    ANYBODY.charge(10**12)
    assert ANYBODY.interactive_allowed
    assert {rpc.service for rpc in RPCS.values()} and len(ANYBODY.scopes) == 6


def test_processes_share_a_quota(clock: Clock) -> None:
    entry = Token.model_validate(
        {"name": "lab", "sha256": "0" * 64, "scopes": ["attack"], "requests_per_second": 8}
    )
    one = Account(entry, processes=4, clock=clock)
    for _ in range(2):
        one.take_request()
    assert refusal(one.take_request).retry_after == 0.5
