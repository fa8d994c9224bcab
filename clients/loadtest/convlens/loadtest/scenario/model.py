"""What a scenario may say. docs/scenarios.md is written from here."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

from convlens.loadtest.scenario.values import (
    ARate,
    Duration,
    Name,
    Pause,
    Rate,
    Share,
    Weight,
    Weights,
)

Priority = Literal["interactive", "batch"]
Count = Annotated[int, Field(ge=1)]
# Of all drawn pictures together: 4096 of 256 x 256.
MOST_PIXELS = 2**28


class Strict(BaseModel):
    """Knows every key, and says so where another is given."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Pictures(Strict):
    """The pictures that are sent: from a folder, or drawn."""

    folder: str | None = Field(
        None, description="A folder with pictures, as a path from the scenario's own folder."
    )
    distinct: Annotated[int, Field(ge=1, le=4096)] = Field(
        16, description="How many different ones there are, drawn or taken from the folder."
    )
    size: tuple[Annotated[int, Field(ge=8, le=8192)], Annotated[int, Field(ge=8, le=8192)]] = Field(
        (256, 256), description="Width and height of drawn ones, in pixels.", strict=False
    )
    format: Literal["jpeg", "png", "tensor"] = Field(
        "jpeg", description="How drawn ones are sent: as a file, or as a tensor of uint8."
    )
    quality: Annotated[int, Field(ge=1, le=100)] = Field(85, description="Of JPEG.")

    @model_validator(mode="after")
    def _in_memory(self) -> Self:
        width, height = self.size
        if self.folder is None and self.distinct * width * height > MOST_PIXELS:
            raise ValueError(
                f"{self.distinct} pictures of {width} x {height} pixels are more than "
                f"{MOST_PIXELS:,} pixels, which are drawn at most; take fewer or smaller ones"
            )
        return self


class Call(Strict):
    """One kind of request."""

    rpc: str = Field(
        description="The RPC: Classify, ExtractFeatures, Explain, ExplainStream, Attack, "
        "AttackStream, Synthesize, ClassifyStream, …"
    )
    body: dict[str, Any] | list[dict[str, Any]] = Field(
        default_factory=dict[str, Any],
        description="The request, as its message has it, in YAML: every method and every "
        "parameter is possible. Of ClassifyStream and ExtractFeaturesStream it is one request of "
        "the stream; of EvaluateRobustness a list of messages.",
    )
    images: Annotated[int, Field(ge=0, le=64)] = Field(
        1, description="Pictures in a request; 0 where it takes none, or the body has its own."
    )
    messages: Annotated[int, Field(ge=1, le=10_000)] = Field(
        8, description="Requests of one ClassifyStream or ExtractFeaturesStream."
    )
    pictures: Pictures | None = Field(None, description="Its own pictures.")
    weight: Weight = Field(1.0, description="How often it comes, beside the other calls.")
    deadline: Duration | None = Field(None, description="Its own deadline.")
    priority: Priority | None = Field(None, description="Its own priority.")
    limits: list[str] = Field(
        default_factory=list[str], alias="assert", description="Limits on it, in all phases."
    )


class Tenant(Strict):
    """One of several callers, who has a token of its own."""

    weight: Weight = Field(1.0, description="The share of all requests that are its.")
    token_file: str | None = Field(
        None, description="The file of its token, as a path from the scenario's own folder."
    )
    token_env: str | None = Field(None, description="The environment variable of its token.")
    priority: Priority | None = Field(
        None, description="Of its requests, where the call does not say another."
    )
    calls: Weights | None = Field(None, description="Its own weights of calls.")

    @model_validator(mode="after")
    def _one_token(self) -> Self:
        if self.token_file and self.token_env:
            raise ValueError("token_file and token_env exclude each other")
        return self


class Connections(Strict):
    """The connections of each load process."""

    channels: Annotated[int, Field(ge=1, le=1000)] = Field(
        1, description="How many there are; requests go over them by turns."
    )
    renew_after: Count | None = Field(
        None, description="Requests after which a connection is closed and another is opened."
    )


class Retries(Strict):
    """What becomes of a request that may be sent again."""

    attempts: Annotated[int, Field(ge=1, le=20)] = Field(
        1, description="Attempts in all; 1 for none again. Latency goes on from the first one."
    )


class Ramp(Strict):
    """A rate that grows, or falls, evenly."""

    start: ARate = Field(alias="from", description="Requests a second at first.")
    end: ARate = Field(alias="to", description="Requests a second at the end.")


# Told apart here, so that an error is about the one that was meant.
RateOrRamp = Annotated[
    Annotated[ARate, Tag("a rate")] | Annotated[Ramp, Tag("a ramp")],
    Discriminator(lambda value: "a ramp" if isinstance(value, dict | Ramp) else "a rate"),
]


class Open(Strict):
    """Requests come at a rate, whatever becomes of those before."""

    rate: RateOrRamp = Field(
        description="Requests a second; `'0.5 * peak'` of what steps have found; or "
        "`{from: …, to: …}` for a ramp.",
    )
    arrivals: Literal["poisson", "constant"] = Field(
        "poisson", description="At random, as of many callers; or at equal distances."
    )
    mix: Weights | None = Field(None, description="Weights of calls, in place of their own.")


class Closed(Strict):
    """Callers who ask again when they are answered."""

    callers: Annotated[int, Field(ge=1, le=100_000)] = Field(description="How many there are.")
    think_time: Pause = Field(0.0, description="How long each waits between two requests.")
    think: Literal["constant", "exponential"] = Field(
        "constant", description="How these times are distributed; think_time is their mean."
    )
    mix: Weights | None = Field(None, description="Weights of calls, in place of their own.")


class Steps(Strict):
    """Rates one after the other, until the server has enough: that finds its peak."""

    start: ARate = Field(alias="from", description="Requests a second of the first step.")
    end: ARate = Field(alias="to", description="No step is above this rate.")
    factor: Annotated[float, Field(gt=1, le=10)] | None = Field(
        None, description="Each step is so many times the one before; 1.5 without `by`."
    )
    by: Annotated[float, Field(gt=0)] | None = Field(
        None, description="Each step is so many requests a second above the one before."
    )
    each: Duration = Field(5.0, description="How long a step is.")
    arrivals: Literal["poisson", "constant"] = Field(
        "constant", description="At equal distances; or at random, as of many callers."
    )
    enough: Share = Field(
        0.95, description="A step is saturated where a smaller share of it has a good answer."
    )
    stop_after: Annotated[int, Field(ge=1, le=100)] = Field(
        2, description="So many saturated steps, one after the other, are the end."
    )
    hold: Duration | None = Field(
        None,
        description="Then the best step's rate is held for so long, and the goodput of that is the "
        "peak: the most of several short steps is more than lasts.",
    )
    mix: Weights | None = Field(None, description="Weights of calls, in place of their own.")

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.factor and self.by:
            raise ValueError("factor and by exclude each other")
        if self.start.of_peak or self.end.of_peak:
            raise ValueError("steps look for the peak, and cannot be a part of it")
        if self.end.number < self.start.number:
            raise ValueError(f"from is {self.start} and to is {self.end}; to must not be below")
        return self

    def rates(self) -> Iterator[float]:
        """Requests a second of each step."""
        rate = self.start.number
        while rate <= self.end.number * (1 + 1e-9):
            yield rate
            rate = rate + self.by if self.by else rate * (self.factor or 1.5)


class Phase(Strict):
    """A part of the run; phases follow each other without a pause."""

    name: Name = Field(description="What it is called in results and limits.")
    duration: Duration | None = Field(None, description="How long it is; of steps, `each` says it.")
    open: Open | None = Field(None, description="An open loop.")
    closed: Closed | None = Field(None, description="A closed loop, alone or beside the other.")
    steps: Steps | None = Field(None, description="Steps of an open loop.")
    warm_up: bool = Field(False, description="Leave it out of the totals.")
    limits: list[str] = Field(
        default_factory=list[str], alias="assert", description="Limits on this phase."
    )

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if not (self.open or self.closed or self.steps):
            raise ValueError("there is no load in it; give open, closed or steps")
        if self.open and self.steps:
            raise ValueError("open and steps exclude each other")
        if bool(self.steps) == bool(self.duration):
            raise ValueError(
                "duration is of no use with steps, whose `each` says it"
                if self.steps
                else "it has no duration; write duration: 30s"
            )
        return self

    @property
    def longest(self) -> float:
        """Seconds that it takes at most, without waiting for last answers."""
        if self.steps:
            return self.steps.each * sum(1 for _ in self.steps.rates())
        return self.duration or 0.0

    def needs_peak(self) -> bool:
        """Whether its rate is a part of the peak."""
        if self.open is None:
            return False
        rate = self.open.rate
        ends = [rate] if isinstance(rate, Rate) else [rate.start, rate.end]
        return any(each.of_peak for each in ends)


class Scenario(Strict):
    """All of a scenario."""

    about: str = Field("", description="What it is for, in one sentence.")
    network: str = Field("", description="Of all calls: NAME or NAME@VERSION; else the default.")
    seed: Annotated[int, Field(ge=0)] = Field(
        0, description="Of everything random: arrivals, calls, pictures."
    )
    deadline: Duration = Field(
        10.0, description="A request has so much time; an answer within it is a good one."
    )
    priority: Priority = Field("interactive", description="Of all calls.")
    pictures: Pictures = Field(
        default_factory=lambda: Pictures.model_validate({}), description="Of all calls."
    )
    calls: dict[Name, Call] = Field(min_length=1, description="The kinds of requests, by name.")
    tenants: dict[Name, Tenant] = Field(
        default_factory=dict[str, Tenant], description="The callers, by name; else there is one."
    )
    connections: Connections = Field(
        default_factory=lambda: Connections.model_validate({}), description="To the server."
    )
    retries: Retries = Field(
        default_factory=lambda: Retries.model_validate({}), description="Of refused requests."
    )
    max_in_flight: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        4000, description="Requests under way in a load process, above which none is sent."
    )
    give_up_after: Duration = Field(
        30.0, description="End the run when no server has answered for so long."
    )
    phases: list[Phase] = Field(min_length=1, description="The parts of the run, in order.")
    limits: list[str] = Field(
        default_factory=list[str], alias="assert", description="Limits on the whole run."
    )

    @model_validator(mode="after")
    def _whole(self) -> Self:
        self._check_names()
        self._check_mixes()
        for number, phase in enumerate(self.phases):
            if phase.needs_peak() and not any(p.steps for p in self.phases[:number]):
                raise ValueError(
                    f"phases.{number}: its rate is a part of the peak, and no phase before it has "
                    "steps, which find that"
                )
        return self

    def _check_names(self) -> None:
        names = [*self.calls, *self.tenants, *(phase.name for phase in self.phases)]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(
                    f"{name!r} is the name of two things; phases, calls and tenants need names of "
                    "their own, since limits are written with them"
                )

    def _check_mixes(self) -> None:
        for where, mix in self._mixes():
            if unknown := [name for name in mix if name not in self.calls]:
                raise ValueError(
                    f"{where}: there is no call {unknown[0]!r}; there are {', '.join(self.calls)}"
                )
            if not any(mix.values()):
                raise ValueError(f"{where}: all weights are 0")
        if self.tenants and not any(tenant.weight for tenant in self.tenants.values()):
            raise ValueError("tenants: all weights are 0")

    def _mixes(self) -> Iterator[tuple[str, Weights]]:
        yield "calls", {name: call.weight for name, call in self.calls.items()}
        for name, tenant in self.tenants.items():
            if tenant.calls is not None:
                yield f"tenants.{name}.calls", tenant.calls
        for number, phase in enumerate(self.phases):
            for key in ("open", "closed", "steps"):
                load: Open | Closed | Steps | None = getattr(phase, key)
                if load and load.mix is not None:
                    yield f"phases.{number}.{key}.mix", load.mix

    @property
    def longest(self) -> float:
        """Seconds of all phases at most."""
        return sum(phase.longest for phase in self.phases)

    def file_of(self, name: str, folder: Path) -> Path:
        """A file that the scenario names, from the folder that it lies in."""
        return folder / Path(name).expanduser()
