"""Who is let in, and what the others are told."""

from contextlib import ExitStack
from typing import Any

import pytest

from convlens.contract import Failure
from convlens.contract.errors import reason_name
from convlens.server.admission import Admission, Limits, Work
from convlens.server.contract import RPCS
from convlens.server.rpc import Call
from convlens.v1.network_pb2 import Network
from tests.server.admission.test_load import Clock

SHAPES = Network(name="shapes", version="1")
CLASSIFY = RPCS["/convlens.v1.ClassificationService/Classify"]


def limits(**given: Any) -> Limits:
    wide: dict[str, Any] = {"jobs": 1000, "bytes": 2**30, "batch_share": 0.5, "max_wait": 10.0}
    wide["passes"] = {"inference": 100, "analysis": 1000}
    return Limits(**(wide | given))


@pytest.fixture
def clock() -> Clock:
    return Clock()


def call(clock: Clock, seconds: float | None = None, priority: str = "interactive") -> Call:
    deadline = None if seconds is None else clock.now + seconds
    return Call(CLASSIFY, "id", deadline, "", priority=priority)


class Door:
    """An admission, and those who have come in."""

    def __init__(self, clock: Clock, **given: Any) -> None:
        self.admission = Admission(limits(**given), clock)
        self.clock = clock
        self.inside: list[tuple[Work, ExitStack]] = []

    def enter(
        self,
        cost: int = 1,
        size: int = 1,
        pool: Any = "inference",
        partial: bool = False,
        **caller: Any,
    ) -> None:
        work, stack = Work(cost, size, partial), ExitStack()
        whose = call(self.clock, **caller)
        stack.enter_context(self.admission.let_in(work, whose, SHAPES, pool))
        self.inside.append((work, stack))

    def leave(self) -> None:
        """The first of them is done."""
        work, stack = self.inside.pop(0)
        work.is_done = True
        stack.close()

    def serve(self, rate: float, company: int = 10, pool: Any = "inference") -> None:
        """Jobs of one pass drain at `rate`, so that it is known, and none are left."""
        for _ in range(50):
            while len(self.inside) < company:
                self.enter(pool=pool)
            self.clock.now += 1 / rate
            self.leave()
        while self.inside:
            self.clock.now += 1 / rate
            self.leave()

    def refusal(self, **given: Any) -> Failure:
        with pytest.raises(Failure) as caught:
            self.enter(**given)
        return caught.value


def test_passes_under_way_are_bounded_and_the_rest_is_told_when_to_return(clock: Clock) -> None:
    door = Door(clock)
    door.serve(rate=20)
    door.enter(cost=90)
    failure = door.refusal(cost=20)
    assert reason_name(failure.reason) == "OVERLOADED"
    assert failure.retry_after == pytest.approx(10 / 20, rel=0.2)
    assert str(failure) == (
        "The server has enough to do: shapes@1-inference has 90 passes under way of at most 100, "
        "and this request may need 20. Try again after the delay in RetryInfo, or send less work."
    )
    door.enter(cost=10)
    door.leave()
    door.enter(cost=20)


def test_a_request_beyond_the_budget_runs_when_nothing_else_does(clock: Clock) -> None:
    door = Door(clock)
    door.enter(cost=500)
    door.refusal(cost=1)
    door.leave()
    door.enter(cost=1)
    door.refusal(cost=500)


def test_each_pool_of_each_network_has_its_own_budget(clock: Clock) -> None:
    door = Door(clock)
    door.enter(cost=100)
    door.refusal(cost=1)
    door.enter(cost=1000, pool="analysis")
    door.refusal(cost=1, pool="analysis")
    other = Network(name="shapes", version="2")
    with door.admission.let_in(Work(100, 1), call(clock), other, "inference"):
        pass


def test_the_priority_batch_leaves_room_for_the_interactive(clock: Clock) -> None:
    door = Door(clock)
    door.enter(cost=40, priority="batch")
    failure = door.refusal(cost=20, priority="batch")
    assert "at most 50 for the priority batch" in str(failure)
    door.enter(cost=60)
    door.refusal(cost=1, priority="batch")


def test_work_that_would_come_too_late_is_refused_at_the_door(clock: Clock) -> None:
    door = Door(clock)
    door.serve(rate=10)
    for _ in range(10):
        door.enter(seconds=60)
    failure = door.refusal(seconds=0.5)
    assert reason_name(failure.reason) == "DEADLINE_TOO_SHORT"
    assert failure.retry_after == pytest.approx(2.2 - 0.5, rel=0.2)
    assert "shapes@1-inference would answer in about 2" in str(failure)
    assert "the call allows 0.5 s" in str(failure)
    door.enter(seconds=3)


def test_expired_work_is_refused_where_others_are_ahead(clock: Clock) -> None:
    door = Door(clock)
    door.serve(rate=10)
    door.enter()
    assert "allows 0 s" in str(door.refusal(seconds=-1))


def test_nobody_waits_longer_than_max_wait(clock: Clock) -> None:
    door = Door(clock, max_wait=3.0)
    door.serve(rate=10, company=20)
    door.enter(cost=29)
    door.enter(cost=6)
    failure = door.refusal()
    assert reason_name(failure.reason) == "OVERLOADED"
    assert "would answer after 3." in str(failure)
    assert "s of waiting, of at most 3." in str(failure)
    assert failure.retry_after is not None and 0.1 < failure.retry_after < 0.6


def test_long_jobs_of_the_analysis_pool_go_on_side_by_side(clock: Clock) -> None:
    door = Door(clock, max_wait=3.0)
    door.serve(rate=10, pool="analysis")
    door.enter(cost=400, pool="analysis")
    door.enter(cost=400, pool="analysis", seconds=240)
    assert "would answer in about" in str(door.refusal(cost=10, pool="analysis", seconds=1))
    door.enter(cost=10, pool="analysis", seconds=10)


def test_where_jobs_queue_half_of_the_time_must_do_and_side_by_side_all_of_it(
    clock: Clock,
) -> None:
    door = Door(clock)
    door.serve(rate=10)
    door.serve(rate=10, pool="analysis")
    door.enter(cost=10)
    door.enter(cost=10, pool="analysis")
    assert "would answer in about 4" in str(door.refusal(cost=10, seconds=2.5))
    door.enter(cost=10, pool="analysis", seconds=2.5)
    door.refusal(cost=10, pool="analysis", seconds=1.5)


def test_whoever_takes_a_part_of_the_answer_is_never_too_late(clock: Clock) -> None:
    door = Door(clock)
    door.serve(rate=10, pool="analysis")
    door.enter(cost=400, pool="analysis")
    door.refusal(cost=400, pool="analysis", seconds=1)
    door.enter(cost=400, pool="analysis", seconds=1, partial=True)
    assert reason_name(door.refusal(cost=400, pool="analysis", partial=True).reason) == "OVERLOADED"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"jobs": 2}, "2 jobs are under way of at most 2"),
        ({"bytes": 100}, "requests of 80 bytes are under way, and this one of 40 is beyond 100"),
    ],
)
def test_jobs_and_bytes_are_bounded_over_all_pools(
    clock: Clock, given: dict[str, int], words: str
) -> None:
    door = Door(clock, **given)
    door.enter(size=40)
    door.enter(size=40, pool="analysis")
    failure = door.refusal(size=40)
    assert words in str(failure)
    assert failure.retry_after == 0.25, "no rate is known yet"
    door.leave()
    door.enter(size=40)


def test_a_single_request_may_be_larger_than_all_bytes(clock: Clock) -> None:
    door = Door(clock, bytes=100)
    door.enter(size=1000)


def test_what_is_refused_takes_nothing(clock: Clock) -> None:
    door = Door(clock)
    door.enter(cost=100)
    for _ in range(10):
        door.refusal(cost=1)
    load = door.admission.load(SHAPES, "inference")
    assert (load.cost, len(load)) == (100, 1)
    door.leave()
    assert (load.cost, len(load)) == (0, 0)


def test_delays_are_neither_too_short_nor_too_long(clock: Clock) -> None:
    door = Door(clock, passes={"inference": 10**6, "analysis": 1})
    door.serve(rate=1)
    door.enter(cost=10**6)
    assert door.refusal(cost=10**6).retry_after == 60
    fast = Door(clock)
    fast.serve(rate=10_000)
    fast.enter(cost=100)
    assert fast.refusal().retry_after == 0.05
