"""Jobs and methods that end before their work is done."""

from collections.abc import Callable, Mapping
from typing import Any

from convlens.workers.runner import (
    Key,
    Runner,
    Steps,
    side_by_side,
)
from tests.workers.runner.jobs import Asked, counted, endless, passes


def test_whoever_left_or_is_out_of_time_is_computed_no_more(runner: Runner) -> None:
    done: list[int] = []
    gone, late = Asked(endless(done)), Asked(endless(done), seconds=0.2)
    runner.submit(gone)
    runner.submit(late)
    assert late.wait() == "DEADLINE_EXCEEDED"
    gone.left.set()
    assert gone.wait() == "CANCELLED"
    count = len(done)
    well = Asked(passes(5, [], "well"))
    runner.submit(well)
    assert well.wait() == "done"
    assert len(done) == count


def test_what_there_is_at_the_deadline_is_the_answer(runner: Runner) -> None:
    done: list[int] = []

    def forked() -> Steps[Any]:
        return (yield from side_by_side([counted(done, 10**6)()]))

    job = Asked(counted(done, 10**6), forked, passes(10**6, [], ""), seconds=0.5, partial=True)
    runner.submit(job)
    assert job.reasons() == ["well", "well", "DEADLINE_EXCEEDED"]
    assert 0 < job.outcomes[0] <= len(done)
    assert 0 < job.outcomes[1][0] <= len(done)
    late = Asked(counted(done, 10**6), seconds=0.5)
    runner.submit(late)
    assert late.wait() == "DEADLINE_EXCEEDED"


def test_an_item_that_is_good_enough_ends(runner: Runner) -> None:
    class Content(Asked):
        def watch(self, working: Mapping[Key, Callable[[], Any]]) -> list[Key]:
            return [key for key, so_far in working.items() if (so_far() or 0) >= 3]

    done: list[int] = []
    job = Content(counted(done, 100), passes(5, [], ""))
    runner.submit(job)
    assert job.reasons() == ["well", "well"]
    assert job.outcomes == {0: 3, 1: None}
    assert len(done) == 3
