"""What the conductor tells the load processes, and what they tell it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np

from convlens.client._security import Security
from convlens.client._transport import Settings
from convlens.loadtest.traffic.arrivals import Course
from convlens.loadtest.traffic.rpcs import Prepared

# One request that came to its end; times in seconds, `due` since the run began.
RECORD = np.dtype(
    [
        ("stage", "u4"),
        ("call", "u2"),
        ("tenant", "u2"),
        # 0 is an answer; others are numbers in the process's own list of reasons.
        ("reason", "u2"),
        ("attempts", "u2"),
        # Images, methods or measures without an answer within one.
        ("broken", "u4"),
        ("due", "f8"),
        ("lateness", "f4"),
        ("latency", "f4"),
        # Until the first message of a stream; NaN where there was none.
        ("first", "f4"),
    ]
)
Row: TypeAlias = tuple[int, int, int, int, int, int, float, float, float, float]
# The reason of what was due and never sent, since the process could not.
NOT_SENT = "NOT_SENT"
# Seconds of the run that are told apart of it.
PART = 0.25


@dataclass(frozen=True, slots=True)
class Caller:
    """A tenant: who it says it is, and how often which calls are its."""

    name: str
    security: Security = field(repr=False)
    priority: str
    weight: float
    weights: Mapping[str, float] | None


@dataclass(frozen=True, slots=True)
class Orders:
    """All that a load process must know before the first stage."""

    number: int
    processes: int
    servers: Sequence[Settings]
    calls: Sequence[Prepared]
    callers: Sequence[Caller]
    channels: int
    renew_after: int | None
    attempts: int
    max_in_flight: int
    seed: int


@dataclass(frozen=True, slots=True)
class OpenLoad:
    """Requests at a rate of all processes together."""

    course: Course
    arrivals: Literal["poisson", "constant"]
    weights: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class ClosedLoad:
    """Callers of all processes together."""

    callers: int
    think_time: float
    think: Literal["constant", "exponential"]
    weights: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Stage:
    """A time with a load: a phase, or one step of it; `begin` is of the monotonic clock."""

    number: int
    begin: float
    seconds: float
    loads: Sequence[OpenLoad | ClosedLoad]
    #: When the run began, which times of records count from.
    epoch: float

    @property
    def end(self) -> float:
        """When nothing is due any more."""
        return self.begin + self.seconds


@dataclass(frozen=True, slots=True)
class Due:
    """A request whose time has come, or is about to: `at` is of the monotonic clock."""

    stage: Stage
    call: int
    caller: int
    at: float


@dataclass(frozen=True, slots=True)
class Stop:
    """Ends everything at once."""


Order: TypeAlias = Orders | Stage | Stop


@dataclass(frozen=True, slots=True)
class Vitals:
    """How the process itself is, since it last said so."""

    in_flight: int
    #: The longest that its loop was late for an appointment, in seconds.
    lag: float
    #: Share of a core that its loop used.
    busy: float
    cpu_seconds: float


@dataclass(frozen=True, slots=True)
class Report:
    """What happened since the last one."""

    process: int
    #: RECORD by RECORD.
    records: bytes
    #: All reasons so far, from 1.
    reasons: Sequence[str]
    #: A sentence for each reason, of the first that had it.
    sentences: Mapping[str, str]
    #: Of parts of answers, by stage, call, tenant and reason.
    broken: Mapping[tuple[int, int, int, str], int]
    #: What was due and could not be sent, by stage, call, tenant and part of the run.
    unsent: Mapping[tuple[int, int, int, int], int]
    vitals: Vitals
    #: Stages of which everything has come to its end.
    ended: Sequence[int]


@dataclass(frozen=True, slots=True)
class Ready:
    """The process has its orders."""

    process: int


@dataclass(frozen=True, slots=True)
class Defect:
    """The process cannot go on, and the fault is its own."""

    process: int
    words: str


Message: TypeAlias = Report | Ready | Defect
