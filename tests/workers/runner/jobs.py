"""Jobs and methods for the tests of the runner."""

import threading
import time
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from convlens.contract import ErrorReason, Failure
from convlens.contract.errors import reason_name
from convlens.internal.v1.job_pb2 import Job, Reply
from convlens.workers.jobs import Ticket
from convlens.workers.network import ServedNetwork
from convlens.workers.runner import (
    AnalysisJob,
    Answer,
    Key,
    Outputs,
    Pass,
    Runner,
    Steps,
)

ROWS = 4


class Asked(AnalysisJob[Any]):
    """A job over some methods, whose outcomes can be waited for."""

    def __init__(
        self,
        *items: Callable[[], Steps[Any]],
        seconds: float = 60,
        cost: int = 1,
        reply: Callable[[Reply], None] | None = None,
        partial: bool = False,
    ) -> None:
        self.left = threading.Event()
        self.accepted: dict[Key, Any] = {}
        self._items = items
        self._answered = threading.Event()
        self._replies: list[Reply] = []
        now = time.monotonic()
        job = Job(request_id="test")
        send = reply or self._keep
        super().__init__(
            Ticket(job, now, now + seconds, self.left.is_set, send), cost, allow_partial=partial
        )

    def begin(self) -> Mapping[Key, Steps[Any]]:
        return {(index,): item() for index, item in enumerate(self._items)}

    def accept(self, key: Key, outcome: Any) -> None:
        assert key not in self.accepted
        self.accepted[key] = outcome

    @property
    def outcomes(self) -> dict[int, Any]:
        """What came of each item, branches aside."""
        return {key[0]: outcome for key, outcome in self.accepted.items() if len(key) == 1}

    def response(self) -> bytes:
        return b"done"

    def _keep(self, reply: Reply) -> None:
        self._replies.append(reply)
        self._answered.set()

    def wait(self) -> str:
        """ "done", or the reason of the failure; the only reply."""
        assert self._answered.wait(30)
        [reply] = self._replies
        failure = Failure.from_status(reply.error) if reply.HasField("error") else None
        return reason_name(failure.reason) if failure else reply.response.decode()

    def reasons(self) -> list[str]:
        """What came of each item: a reason, or "well"."""
        assert self.wait() == "done"
        return [
            reason_name(each.reason) if isinstance(each, Failure) else "well"
            for _, each in sorted(self.outcomes.items())
        ]


@contextmanager
def running(
    network: ServedNetwork, share: bool = False, budget: int = 10, memory: int | None = None
) -> Generator[Runner]:
    # One thread, so that jobs begin in the order in which they come.
    with ThreadPoolExecutor(1, thread_name_prefix="preparing") as executor:
        made = Runner(network, budget, ROWS, share, executor, memory)
        yield made
        made.close()


@contextmanager
def held(runner: Runner) -> Generator[None]:
    """The runner is busy with something else while the block queues its jobs."""
    gate, busy = threading.Event(), threading.Event()

    def waiting() -> Steps[None]:
        busy.set()
        gate.wait(10)
        yield Pass(picture(0))

    job = Asked(waiting)
    runner.submit(job)
    assert busy.wait(10)
    yield
    gate.set()
    assert job.wait() == "done"


def picture(seed: int, count: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 3, 128, 128, generator=generator)


def best(outputs: Outputs) -> Tensor:
    return outputs.scores.amax(dim=1)


def scored(points: Tensor) -> Callable[[], Steps[Tensor]]:
    def steps() -> Steps[Tensor]:
        answer = yield Pass(points)
        return answer.scores

    return steps


def saliency(points: Tensor) -> Callable[[], Steps[Tensor]]:
    def steps() -> Steps[Tensor]:
        answer = yield Pass(points, best)
        return answer.slope

    return steps


def ascent(points: Tensor, steps: int) -> Callable[[], Steps[Tensor]]:
    """Signs of gradients tell the last bit of a difference, and carry it on."""

    def method() -> Steps[Tensor]:
        x = points
        for _ in range(steps):
            answer = yield Pass(x, best)
            x = (x + 0.01 * answer.slope.sign()).clamp(0, 1)
        return x

    return method


def passes(count: int, done: list[str], name: str) -> Callable[[], Steps[None]]:
    def steps() -> Steps[None]:
        for _ in range(count):
            done.append(name)
            yield Pass(picture(0))

    return steps


def counted(done: list[int], count: int) -> Callable[[], Steps[int]]:
    """Counts its passes, and says so at any time after the first."""

    def steps() -> Steps[int]:
        for _ in range(count):
            yield Pass(picture(0), so_far=lambda: len(done) or None)
            done.append(1)
        return count

    return steps


class Wrong:
    """Points that cannot be made."""

    def __len__(self) -> int:
        return 1

    def __getitem__(self, rows: slice, /) -> Tensor:
        raise RuntimeError("planted: no points")


def broken_at(place: str) -> Callable[[], Steps[None]]:
    def objective(outputs: Outputs) -> Tensor:
        raise RuntimeError("planted: no value")

    def each(_: Answer) -> None:
        raise RuntimeError("planted: not taken")

    def steps() -> Steps[None]:
        if place == "start":
            raise RuntimeError("planted: no start")
        if place == "failure":
            yield Pass(picture(0))
            raise Failure(ErrorReason.ERROR_REASON_NOT_IMPLEMENTED, rpc="x")
        if place == "points":
            yield Pass(Wrong(), best)
        elif place == "empty":
            yield Pass(picture(0)[:0])
        elif place == "shape":
            yield Pass(torch.zeros(1, 5, 7, 7), best)
        elif place == "part":
            yield Pass(picture(0), best, each=each)
        elif place == "nothing":
            yield None  # pyright: ignore[reportReturnType]
        else:
            yield Pass(picture(0), objective)
        raise RuntimeError("planted: after the pass")

    return steps


PLACES = ("start", "failure", "points", "empty", "shape", "part", "nothing", "objective")


def endless(done: list[int]) -> Callable[[], Steps[None]]:
    def steps() -> Steps[None]:
        while True:
            done.append(1)
            yield Pass(picture(0))

    return steps
