"""What a run found, as its JSON has it. Times are in seconds, rates per second."""

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

# Raised when what is written cannot be read by what came before.
FORMAT = "convlens-loadtest/1"
# Those that are told; of more, a histogram is beside them.
PERCENTILES = {"p50": 50.0, "p75": 75.0, "p90": 90.0, "p95": 95.0, "p99": 99.0, "p99_9": 99.9}


class Part(BaseModel):
    """A part of the JSON."""

    model_config = ConfigDict(extra="forbid")


class Times(Part):
    """How long something took."""

    count: int
    mean: float
    min: float
    p50: float
    p75: float
    p90: float
    p95: float
    p99: float
    p99_9: float
    max: float
    #: All of it, in HdrHistogram's own compressed form, in microseconds; empty where left out.
    hdr: str = Field("", repr=False)


class Figures(Part):
    """What came of some requests.

    Counts are of those that were due in the time. Rates count the answers that came in it, begun
    later by their median latency: what was under way at its end belongs to it.
    """

    seconds: float
    due: int
    unsent: int
    answered: int
    good: int
    failed: int
    #: Answers after their deadline, and answers of which a part failed.
    late: int
    incomplete: int
    attempts: int
    offered: float
    throughput: float
    goodput: float
    #: Failures by reason, and parts of answers that failed.
    reasons: dict[str, int]
    broken: dict[str, int]
    #: Of answers, of failures, and of the first messages of streams.
    latency: Times | None
    failures: Times | None
    first: Times | None


class Timed(Part):
    """How long the server spent in a stage, of the jobs that it answered meanwhile.

    Percentiles are as fine as the buckets of its metrics.
    """

    pool: str
    stage: str
    count: int
    mean: float
    p50: float
    p99: float


class Server(Part):
    """What the server's metrics say of a time."""

    stages: list[Timed]
    #: Images in a pass, in the mean; None where none was counted.
    batch_images: float | None
    #: Jobs that waited in its queues, in the mean and at most.
    queue_mean: float | None
    queue_max: float | None


class Generator(Part):
    """How the load processes themselves were."""

    #: Between when a request was due and when it was sent.
    lateness: Times | None
    #: The longest that a loop was late for an appointment.
    lag: float
    #: The busiest loop, as a share of a core, in the mean.
    busy: float
    #: Why the figures are not the server's alone; empty where they are.
    bottleneck: str


class Step(Part):
    """One rate on the way to the peak."""

    rate: float
    begin: float
    saturated: bool
    figures: Figures
    generator: Generator


class PhaseResult(Part):
    """A phase."""

    name: str
    kind: str
    warm_up: bool
    begin: float
    seconds: float
    figures: Figures
    calls: dict[str, Figures]
    tenants: dict[str, Figures]
    steps: list[Step]
    #: Good answers a second of the best step, and the first rate that was too much.
    peak: float | None
    saturating: float | None
    #: Seconds until answers were good again, after a phase with more load; None where that does
    #: not apply, and `recovered` says whether they were at all.
    recovery: float | None
    recovered: bool | None
    server: Server | None
    generator: Generator


class Series(Part):
    """The curves: one value for each interval."""

    interval: float = Field(gt=0)
    due: list[int]
    good: list[int]
    came: list[int]
    p50: list[float | None]
    p90: list[float | None]
    p99: list[float | None]
    max: list[float | None]
    reasons: dict[str, list[int]]
    queue: list[float | None]

    @model_validator(mode="after")
    def _as_long(self) -> Self:
        curves = (self.good, self.came, self.p50, self.p90, self.p99, self.max, self.queue)
        if any(len(each) != len(self.due) for each in (*curves, *self.reasons.values())):
            raise ValueError("its curves are not of one length")
        return self


class Verdict(Part):
    """A limit, and whether it held."""

    limit: str
    holds: bool
    #: What was found, and what was allowed.
    found: str
    words: str


class Result(Part):
    """All of a run."""

    format: str = FORMAT
    version: str
    scenario: str
    about: str
    #: As it was read, in YAML, and what of it was overridden.
    text: str = Field(repr=False)
    #: What was typed.
    command: str
    started: str
    seconds: float
    servers: list[str]
    networks: list[str]
    processes: int
    machine: dict[str, str]
    total: Figures
    calls: dict[str, Figures]
    tenants: dict[str, Figures]
    phases: list[PhaseResult]
    peak: float | None
    generator: Generator
    server: Server | None
    series: Series
    #: A sentence for each reason.
    sentences: dict[str, str]
    verdicts: list[Verdict]
    warnings: list[str]
    #: Why the run ended before its time; empty where it did not.
    ended_early: str

    def phase(self, name: str) -> PhaseResult | None:
        """The phase of that name."""
        return next((phase for phase in self.phases if phase.name == name), None)

    def document(self) -> dict[str, Any]:
        """As JSON has it; numbers that are none are null there."""
        return self.model_dump(mode="json")
