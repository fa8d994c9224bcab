"""What waits for a pool is bounded, and what waits together is worked on together."""

import threading
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager

import pytest

from convlens.contract import ErrorReason, Failure
from convlens.contract.errors import reason_name
from convlens.internal.v1.job_pb2 import Job, Reply, Stages
from convlens.workers.config import PoolConfig
from convlens.workers.intake import Intake
from convlens.workers.jobs import Ticket


class Gate:
    """A worker that answers each batch when it is let through."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.batches: list[int] = []
        self.busy = threading.Event()

    def run(self, tickets: Sequence[Ticket]) -> None:
        self.batches.append(len(tickets))
        self.busy.set()
        assert self.open.wait(10)
        for ticket in tickets:
            ticket.answer(b"", Stages())

    def is_idle(self) -> bool:
        return True

    def close(self) -> None:
        pass


@contextmanager
def intake(**settings: int) -> Generator[tuple[Intake, Gate]]:
    """An intake whose worker is busy with one job already."""
    gate = Gate()
    made = Intake("pool", PoolConfig.model_validate(settings), gate)
    made.submit(ticket([]))
    assert gate.busy.wait(10)
    try:
        yield made, gate
    finally:
        gate.open.set()
        made.close(10)


def ticket(replies: list[Reply], size: int = 0, seconds: float = 60) -> Ticket:
    now = time.monotonic()
    job = Job(request=b"x" * size)
    return Ticket(job, now, now + seconds, lambda: False, replies.append)


def reason(replies: Sequence[Reply]) -> str:
    if not replies:
        return "waits"
    failure = Failure.from_status(replies[0].error) if replies[0].HasField("error") else None
    return reason_name(failure.reason) if failure else "answered"


def outcomes(made: Intake, jobs: Sequence[tuple[int, float]]) -> list[list[Reply]]:
    replies: list[list[Reply]] = [[] for _ in jobs]
    for (size, seconds), each in zip(jobs, replies, strict=True):
        made.submit(ticket(each, size, seconds))
    return replies


def test_what_waits_while_the_worker_is_busy_is_the_next_batch() -> None:
    with intake(max_batch=4) as (made, gate):
        replies = outcomes(made, [(0, 60)] * 6)
        assert len(made) == 6
        assert not made.is_idle()
    assert gate.batches == [1, 4, 2]
    assert [reason(each) for each in replies] == ["answered"] * 6
    assert made.is_idle()


def test_a_full_queue_turns_away_with_the_time_to_come_back() -> None:
    with intake(queue_size=2) as (made, _):
        replies = outcomes(made, [(0, 60)] * 3)
        assert [reason(each) for each in replies] == ["waits", "waits", "QUEUE_FULL"]
        failure = Failure.from_status(replies[2][0].error)
        assert failure
        assert failure.retry_after
    assert [reason(each) for each in replies] == ["answered", "answered", "QUEUE_FULL"]


def test_the_bytes_that_wait_are_bounded_but_one_large_job_is_taken() -> None:
    half = 2**19
    with intake(queue_bytes=2**20) as (made, _):
        jobs = [(half, 60.0), (half, 60.0), (1, 60.0)]
        assert [reason(each) for each in outcomes(made, jobs)] == ["waits", "waits", "QUEUE_FULL"]
    with intake(queue_bytes=2**20) as (made, _):
        jobs = [(2**21, 60.0), (1, 60.0)]
        assert [reason(each) for each in outcomes(made, jobs)] == ["waits", "QUEUE_FULL"]


@pytest.mark.parametrize("size", [0, 2**20])
def test_who_waits_no_more_gives_its_place_to_others(size: int) -> None:
    with intake(queue_size=1, queue_bytes=2**20) as (made, _):
        replies = outcomes(made, [(size, 0.0), (size, 60.0)])
        assert [reason(each) for each in replies] == ["DEADLINE_EXCEEDED", "waits"]
    assert reason(replies[1]) == "answered"


def test_a_closed_intake_takes_nothing() -> None:
    with intake() as (made, gate):
        gate.open.set()
        made.close(10)
        assert [reason(each) for each in outcomes(made, [(0, 60)])] == ["QUEUE_FULL"]


def test_a_full_queue_does_not_ask_for_every_caller_it_turns_away() -> None:
    asked = 0

    def cancelled() -> bool:
        nonlocal asked
        asked += 1
        time.sleep(0.001)
        return False

    with intake(queue_size=50) as (made, _):
        for _ in range(300):
            each = ticket([])
            each.cancelled = cancelled
            made.submit(each)
        assert len(made) == 50
        assert asked <= 100


def test_who_waits_for_a_pool_that_ends_too_long_is_turned_away() -> None:
    with intake() as (made, gate):
        replies = outcomes(made, [(0, 60)] * 3)
        closing = threading.Thread(target=made.close, args=(0.1,))
        closing.start()
        while any(reason(each) == "waits" for each in replies):
            time.sleep(0.01)
        assert closing.is_alive(), "the batch that was begun is waited for"
        gate.open.set()
        closing.join(10)
    assert [reason(each) for each in replies] == ["WORKER_UNAVAILABLE"] * 3


def test_nobody_asks_about_a_job_that_is_answered() -> None:
    """Triton frees what `is_cancelled` looks at with the last response: asking then ended it."""
    replies: list[Reply] = []
    answered = ticket(replies)
    answered.answer(b"x", Stages())

    def freed() -> bool:
        raise AssertionError("asked about what is freed")

    answered.cancelled = freed
    assert answered.is_over()
    assert not answered.is_open("late")
    answered.fail(Failure(ErrorReason.ERROR_REASON_CANCELLED))
    answered.answer(b"y", Stages())
    assert [reply.response for reply in replies] == [b"x"]
