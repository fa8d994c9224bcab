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
