"""What Triton's texts mean: it tells many faults apart by their words alone."""

import re
from dataclasses import dataclass
from enum import Enum, auto

import grpc


class Fault(Enum):
    """Why Triton did not run a job."""

    # No answer within the time of a job and a second more: the worker would have said so itself.
    OUT_OF_TIME = auto()
    # /dev/shm has no room for a job or its answer.
    NO_ROOM = auto()
    # A model does not start; the text says why.
    NOT_LOADED = auto()
    # The process of the worker died; Triton goes on failing until the model is loaded again.
    DEAD_WORKER = auto()
    # Not loaded now: it starts, heals or stops. A network of ours is never simply unknown.
    NOT_READY = auto()
    # Nobody there, or the connection broke.
    OUT_OF_REACH = auto()
    UNKNOWN = auto()


# Triton says that a model is unknown, or has no version, when it is not loaded.
UNLOADED = "unknown model"

# The first that fits holds: the words of a model that does not start may look like any below.
TEXTS = (
    # Somebody unloaded it while it was loaded.
    (Fault.NOT_READY, r"is at UNAVAILABLE state: unloaded"),
    (Fault.NOT_LOADED, r"load failed for model"),
    (Fault.NO_ROOM, r"shared memory (pool size|region '|key ')"),
    # What gRPC itself says of a call whose connection breaks in the moment that it is written to.
    (Fault.OUT_OF_REACH, r"^Internal error from Core$"),
    (Fault.DEAD_WORKER, r"stub process .*is not healthy|failed to (send|receive) .*stub"),
    (
        Fault.NOT_READY,
        rf"{UNLOADED}|no available versions|not ready|is not found|"
        r"(server|model) .*(stopping|stopped|exiting|shutting down|unload)",
    ),
)


# What stands before and after a model's own words where it does not start.
MISTAKE = re.compile(r"ConfigError: (.+)")
PREFIX = re.compile(r"^.*?state: (Internal: )?", re.DOTALL)


@dataclass(frozen=True)
class TritonFault(Exception):
    """Triton did not run a job; `retry` says whether another try may go better."""

    fault: Fault
    text: str

    def __str__(self) -> str:
        return self.text

    @property
    def retry(self) -> bool:
        """Whether the job can be tried again: it has not run, and all jobs are pure functions."""
        return self.fault in (Fault.DEAD_WORKER, Fault.NOT_READY, Fault.OUT_OF_REACH)

    @property
    def unloaded(self) -> bool:
        """Whether Triton has no such model now."""
        return self.fault is Fault.NOT_READY and UNLOADED in self.text.lower()

    @property
    def reason(self) -> str:
        """The line that says why a model does not start, without the files of the server."""
        if self.fault is not Fault.NOT_LOADED:
            return self.text
        if mistake := MISTAKE.search(self.text):
            return mistake[1]
        [line, *_] = PREFIX.sub("", self.text, count=1).strip().splitlines() or [self.text]
        return line


def fault_of_text(text: str) -> TritonFault:
    """The fault behind one of Triton's texts."""
    for fault, pattern in TEXTS:
        if re.search(pattern, text, re.IGNORECASE):
            return TritonFault(fault, text)
    return TritonFault(Fault.UNKNOWN, text)


def fault_of_error(error: grpc.aio.AioRpcError) -> TritonFault:
    """The fault behind an error of gRPC."""
    return fault_of_status(error.code(), error.details())


def fault_of_status(code: grpc.StatusCode, details: str | None) -> TritonFault:
    """The fault behind the status with which a call of gRPC ended."""
    known = fault_of_text(details or "")
    if known.fault is not Fault.UNKNOWN:
        return known
    if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
        return TritonFault(Fault.OUT_OF_REACH, known.text or "the connection broke")
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        # Of a stream, which alone carries a timeout of gRPC's.
        return TritonFault(Fault.OUT_OF_TIME, known.text)
    return known
