"""Admission by cost: what is let in will be answered in time, and the rest is told when to return.

Budgets are of one server process: several share them out, and replicas multiply them.
"""

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass

from convlens.contract import RETRY_SECONDS, ErrorReason, Failure
from convlens.contract.pools import Pool, model_name
from convlens.server.admission.load import Load, Work
from convlens.server.rpc import Call
from convlens.server.settings import Settings
from convlens.v1.network_pb2 import Network

# What RetryInfo says at least and at most, in seconds.
SOONEST, LATEST = 0.05, 60.0
# Of the time that is left, where jobs queue: what is ahead may be slower than what was before.
# Side by side the costs themselves are upper bounds.
SURE = 0.5


@dataclass(frozen=True)
class Limits:
    """What may be under way in one server process: passes of each pool, jobs and their bytes.

    `batch_share` of a pool's passes is what callers of the priority batch may fill. To a pool
    whose jobs queue nobody is let in who would wait for more than `max_wait` seconds.
    """

    passes: dict[Pool, int]
    jobs: int
    bytes: int
    batch_share: float
    max_wait: float


def limits_of(settings: Settings) -> Limits:
    """The limits that the settings give to one of the server's processes."""
    return Limits(
        passes={
            "inference": settings.of_one_process(settings.inference_budget),
            "analysis": settings.of_one_process(settings.analysis_budget),
        },
        jobs=settings.of_one_process(settings.max_jobs),
        bytes=settings.of_one_process(settings.max_bytes),
        batch_share=settings.batch_share,
        max_wait=settings.max_wait,
    )


class Admission:
    """Lets jobs in, or refuses them with the time after which there will be room."""

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._clock = clock
        self._loads: dict[tuple[str, Pool], Load] = {}
        self._jobs = 0
        self._bytes = 0

    def load(self, network: Network, pool: Pool) -> Load:
        """The load of a pool of a network."""
        name = model_name(network.name, network.version, pool)
        if (name, pool) not in self._loads:
            self._loads[name, pool] = Load(name, is_shared=pool == "analysis", clock=self._clock)
        return self._loads[name, pool]

    def cost(self, pool: Pool) -> int:
        """Passes under way in a pool of all networks."""
        return sum(load.cost for (_, each), load in self._loads.items() if each == pool)

    @contextmanager
    def let_in(self, work: Work, call: Call, network: Network, pool: Pool) -> Generator[None]:
        """A job is under way inside of the block.

        Raises Failure OVERLOADED, or DEADLINE_TOO_SHORT where the answer would come too late.
        """
        load = self.load(network, pool)
        self._check_room(load, work.size)
        self._check_budget(load, pool, work.cost, call)
        self._check_time(load, work, call)
        self._jobs += 1
        self._bytes += work.size
        load.enter(work)
        try:
            yield
        finally:
            self._jobs -= 1
            self._bytes -= work.size
            load.leave(work)

    def _check_room(self, load: Load, size: int) -> None:
        """Bounds what all pools hold together; a single job is always taken."""
        if not self._jobs:
            return
        limits = self._limits
        if self._jobs >= limits.jobs:
            raise overloaded(f"{self._jobs} jobs are under way of at most {limits.jobs}", load, 1)
        if self._bytes + size > limits.bytes:
            taken = f"requests of {self._bytes} bytes are under way"
            raise overloaded(f"{taken}, and this one of {size} is beyond {limits.bytes}", load, 1)

    def _check_budget(self, load: Load, pool: Pool, cost: int, call: Call) -> None:
        """Bounds the passes of a pool; a larger request runs when nothing else does."""
        budget, whose = self._limits.passes[pool], ""
        if call.priority == "batch":
            budget, whose = round(budget * self._limits.batch_share), " for the priority batch"
        beyond = load.cost + cost - budget
        if load.cost and beyond > 0:
            taken = f"{load.name} has {load.cost} passes under way of at most {budget}{whose}"
            raise overloaded(f"{taken}, and this request may need {cost}", load, beyond)

    def _check_time(self, load: Load, work: Work, call: Call) -> None:
        """Bounds the time until the answer; whoever takes what there is then is never too late."""
        wait, left = load.wait(work.cost), self._left(call)
        total = (wait + load.seconds(work.cost)) / (1 if load.is_shared else SURE)
        if load.cost and total > left and not work.is_partial:
            raise Failure(
                ErrorReason.ERROR_REASON_DEADLINE_TOO_SHORT,
                retry_after=min(max(total - left, SOONEST), LATEST),
                pool=load.name,
                seconds=f"{total:.2g}",
                left=f"{max(0.0, left):.2g}",
            )
        # Jobs that share a pool delay each other as long as each takes; their deadlines decide.
        if not load.is_shared and wait > self._limits.max_wait:
            late = f"{load.name} would answer after {wait:.2g} s of waiting"
            beyond = wait - self._limits.max_wait
            raise _overloaded(f"{late}, of at most {self._limits.max_wait:g}", beyond)

    def _left(self, call: Call) -> float:
        return float("inf") if call.deadline is None else call.deadline - self._clock()


def overloaded(detail: str, load: Load, passes: int) -> Failure:
    """What a caller is told who may come back when so many passes have drained."""
    return _overloaded(detail, load.seconds(passes) if load.rate else RETRY_SECONDS)


def _overloaded(detail: str, seconds: float) -> Failure:
    delay = min(max(seconds, SOONEST), LATEST)
    return Failure(ErrorReason.ERROR_REASON_OVERLOADED, retry_after=delay, detail=detail)
