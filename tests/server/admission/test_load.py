"""What the load of a pool tells of its drain rate and of waiting."""

import pytest

from convlens.server.admission import Work
from convlens.server.admission.load import Load


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Pool:
    """A pool that serves `rate` passes per second to its load; as a queue, or side by side."""

    def __init__(self, rate: float, is_shared: bool) -> None:
        self.clock = Clock()
        self.rate = rate
        self.load = Load("shapes@1-inference", is_shared, self.clock)
        self.left: dict[Work, float] = {}

    def enter(self, cost: int) -> Work:
        work = Work(cost, 1)
        self.load.enter(work)
        self.left[work] = cost
        return work

    def pass_time(self, seconds: float, step: float = 0.001) -> None:
        """Serves what is there; a queue serves the first, in a shared pool each gets its share."""
        for _ in range(round(seconds / step)):
            self.clock.now += step
            served = list(self.left) if self.load.is_shared else list(self.left)[:1]
            for work in served:
                self.left[work] -= self.rate * step / len(served)
                if self.left[work] <= 1e-9:
                    del self.left[work]
                    work.is_done = True
                    self.load.leave(work)


@pytest.mark.parametrize("is_shared", [False, True])
def test_the_rate_under_load(is_shared: bool) -> None:
    pool = Pool(50, is_shared)
    for _ in range(100):
        while len(pool.left) < 10:
            pool.enter(1)
        pool.pass_time(0.1)
    assert pool.load.rate == pytest.approx(50, rel=0.1)
    while len(pool.left) < 10:
        pool.enter(1)
    assert pool.load.wait(1) == pytest.approx(0.2, rel=0.1)


@pytest.mark.parametrize("is_shared", [False, True])
def test_jobs_of_different_costs(is_shared: bool) -> None:
    pool = Pool(100, is_shared)
    costs = [1, 40, 5, 12]
    for number in range(200):
        while len(pool.left) < 8:
            pool.enter(costs[number % 4])
        pool.pass_time(0.05)
    assert pool.load.rate == pytest.approx(100, rel=0.1)


@pytest.mark.parametrize("is_shared", [False, True])
def test_a_load_that_grows_is_not_taken_for_speed(is_shared: bool) -> None:
    pool = Pool(20, is_shared)
    for _ in range(30):
        pool.enter(1)
        pool.pass_time(0.01)
        pool.enter(1)
        pool.pass_time(0.01)
    assert len(pool.load) > 40
    # Side by side none has ended yet.
    pool.pass_time(2.5)
    assert pool.load.rate == pytest.approx(20, rel=0.1)


def test_a_small_job_waits_for_a_queue_and_not_for_those_beside_it() -> None:
    for is_shared, seconds in ((False, 10.0), (True, 0.01)):
        pool = Pool(100, is_shared)
        for _ in range(20):
            pool.enter(1)
            pool.pass_time(0.02)
        pool.enter(1000)
        assert pool.load.wait(1) == pytest.approx(seconds, rel=0.05)


def test_nothing_is_known_before_a_job_has_ended() -> None:
    pool = Pool(1, is_shared=False)
    pool.enter(100)
    assert pool.load.rate is None and pool.load.wait(1) == 0 and pool.load.seconds(5) == 0


def test_nothing_is_known_of_much_more_load_than_was_seen() -> None:
    pool = Pool(1, is_shared=False)
    pool.enter(1)
    pool.pass_time(1.1)
    for count in range(1, 6):
        assert pool.load.wait(1) == pytest.approx(count - 1 if count < 4 else 0)
        pool.enter(1)


def test_seconds_under_load_count_for_more() -> None:
    """Alone a pass takes a second, though eight together take no longer."""
    load = Load("n@1-inference", is_shared=False, clock=(clock := Clock()))
    for count in (1, 8, 1, 1):
        works = [Work(1, 1) for _ in range(count)]
        for work in works:
            load.enter(work)
        clock.now += 1
        for work in works:
            work.is_done = True
            load.leave(work)
    assert load.rate is not None and load.rate > 3


def test_what_failed_or_was_cancelled_tells_nothing() -> None:
    load = Load("n@1-inference", is_shared=False, clock=(clock := Clock()))
    load.enter(work := Work(5, 1))
    clock.now += 0.001
    load.leave(work)
    assert load.rate is None and load.cost == 0 and len(load) == 0


def test_an_older_rate_fades() -> None:
    pool = Pool(100, is_shared=False)
    for _ in range(50):
        pool.enter(10)
        pool.pass_time(0.1)
    pool.rate = 10
    for _ in range(100):
        pool.enter(10)
        pool.pass_time(1.0)
    assert pool.load.rate == pytest.approx(10, rel=0.2)


def comes(load: Load, cost: int = 1) -> Work:
    """A job that has just come."""
    work = Work(cost, 1)
    load.enter(work)
    return work


def is_answered(load: Load, work: Work) -> None:
    """It ends, as one that was answered in full."""
    work.is_done = True
    load.leave(work)


def test_a_first_pass_without_company_says_nothing_of_many_who_came_meanwhile() -> None:
    clock = Clock()
    load = Load("shapes@1-inference", False, clock)
    first = comes(load)
    clock.now += 0.01
    for _ in range(127):
        comes(load)
    clock.now += 0.1
    is_answered(load, first)
    # By its rate they would take 14 seconds, and be turned away; 32 of them share a pass.
    assert load.rate == pytest.approx(1 / 0.11)
    assert load.wait(1) == 0


def test_one_that_was_left_over_says_little_of_many_that_were_given_up() -> None:
    clock = Clock()
    load = Load("shapes@1-inference", False, clock)
    *given_up, last = [comes(load) for _ in range(128)]
    clock.now += 0.6
    for work in given_up:
        load.leave(work)
    is_answered(load, last)
    # They were not computed: its 213 passes a second count as one job's.
    for _ in range(10):
        work = comes(load)
        clock.now += 0.1
        is_answered(load, work)
    assert load.rate == pytest.approx(138 / 1.6, rel=0.05)


def test_in_a_shared_pool_the_first_end_tells_of_all_that_are_there() -> None:
    clock = Clock()
    load = Load("shapes@1-analysis", True, clock)
    first = comes(load, 5)
    for _ in range(39):
        clock.now += 0.01
        comes(load, 5)
    clock.now += 10
    is_answered(load, first)
    assert load.wait(1) > 0
