"""The runner: each job on its own, whatever happens to the one beside it."""

import threading
import time
from collections.abc import Callable, Generator, Iterator
from typing import Any

import pytest

from convlens.contract import ErrorReason, Failure
from convlens.contract.errors import reason_name
from convlens.internal.v1.job_pb2 import Job, Reply
from convlens.workers.jobs import Ticket, alone
from convlens.workers.runner import Runner, Steps


class Asked:
    """A ticket whose answer can be waited for."""

    def __init__(self, seconds: float = 20, reply: Callable[[Reply], None] | None = None) -> None:
        self.left = threading.Event()
        self._answered = threading.Event()
        self._replies: list[Reply] = []
        now = time.monotonic()
        self.ticket = Ticket(
            Job(request_id="test"), now, now + seconds, self.left.is_set, reply or self._keep
        )

    def _keep(self, reply: Reply) -> None:
        self._replies.append(reply)
        self._answered.set()

    def wait(self) -> str:
        """The response, or the reason of the failure; the only one."""
        assert self._answered.wait(10)
        [reply] = self._replies
        failure = Failure.from_status(reply.error) if reply.HasField("error") else None
        return reason_name(failure.reason) if failure else reply.response.decode()


def counted(passes: int, done: list[str], name: str) -> Steps:
    for _ in range(passes):
        done.append(name)
        yield
    return name.encode()


def raising(error: Exception) -> Steps:
    yield
    raise error


def endless(done: list[int]) -> Steps:
    while True:
        done.append(1)
        time.sleep(0.001)
        yield


@pytest.fixture
def runner() -> Iterator[Runner]:
    running = Runner("test", 10)
    yield running
    running.close()


def test_jobs_take_turns(runner: Runner) -> None:
    done: list[str] = []
    gate, one, two = threading.Event(), Asked(), Asked()

    def waiting() -> Steps:
        gate.wait(10)
        yield
        return b"first"

    first = Asked()
    runner.submit(first.ticket, waiting(), 1)
    runner.submit(one.ticket, counted(3, done, "one"), 3)
    runner.submit(two.ticket, counted(1, done, "two"), 1)
    gate.set()
    assert (first.wait(), one.wait(), two.wait()) == ("first", "one", "two")
    assert done == ["one", "two", "one", "one"]


def test_a_job_that_raises_is_alone_with_it(runner: Runner) -> None:
    done: list[str] = []
    failure = Failure(ErrorReason.ERROR_REASON_NOT_IMPLEMENTED, rpc="x")
    planned, broken, well = Asked(), Asked(), Asked()
    runner.submit(planned.ticket, raising(failure), 1)
    runner.submit(broken.ticket, raising(RuntimeError("planted")), 1)
    runner.submit(well.ticket, counted(3, done, "well"), 3)
    assert planned.wait() == "NOT_IMPLEMENTED"
    assert broken.wait() == "INTERNAL"
    assert well.wait() == "well"


def test_an_answer_that_cannot_be_sent_does_not_end_the_runner(runner: Runner) -> None:
    def reply(_: Reply) -> None:
        raise RuntimeError("planted: the caller's connection broke")

    done: list[str] = []
    for job in (counted(1, done, "lost"), raising(RuntimeError("planted"))):
        runner.submit(Asked(reply=reply).ticket, job, 1)
    late = Asked(seconds=-1, reply=reply)
    runner.submit(late.ticket, counted(1, done, "late"), 1)
    well = Asked()
    runner.submit(well.ticket, counted(1, done, "well"), 1)
    assert well.wait() == "well"
    runner.wait_for_room()


def test_a_job_that_cannot_be_closed_does_not_end_the_runner(runner: Runner) -> None:
    def clinging() -> Generator[None, None, bytes]:
        try:
            yield
            yield
        finally:
            raise RuntimeError("planted")
        return b""

    left, well = Asked(), Asked()
    left.left.set()
    steps: Any = clinging()
    next(steps)
    runner.submit(left.ticket, steps, 1)
    runner.submit(well.ticket, counted(1, [], "well"), 1)
    assert left.wait() == "CANCELLED"
    assert well.wait() == "well"


def test_whoever_left_or_is_out_of_time_is_computed_no_more(runner: Runner) -> None:
    done: list[int] = []
    gone, late = Asked(), Asked(seconds=0.05)
    runner.submit(gone.ticket, endless(done), 1)
    runner.submit(late.ticket, endless(done), 1)
    assert late.wait() == "DEADLINE_EXCEEDED"
    gone.left.set()
    assert gone.wait() == "CANCELLED"
    passes = len(done)
    well = Asked()
    runner.submit(well.ticket, counted(5, [], "well"), 5)
    assert well.wait() == "well"
    assert len(done) == passes


def test_there_is_room_again_when_a_job_has_ended(runner: Runner) -> None:
    big, small = Asked(), Asked()
    runner.submit(big.ticket, endless([]), 11)
    runner.submit(small.ticket, counted(1, [], "small"), 1)
    waiting = threading.Thread(target=runner.wait_for_room)
    waiting.start()
    assert small.wait() == "small"
    waiting.join(0.05)
    assert waiting.is_alive(), "11 passes are over the budget of 10"
    big.left.set()
    waiting.join(10)
    assert not waiting.is_alive()


def test_alone_fails_only_a_ticket_that_has_no_answer() -> None:
    asked = Asked()
    with alone(asked.ticket):
        asked.ticket.fail(Failure(ErrorReason.ERROR_REASON_CANCELLED))
        raise RuntimeError("planted, after the answer")
    assert asked.wait() == "CANCELLED"
