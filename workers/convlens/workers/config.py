"""networks.yaml: which networks are served, and how their pools are laid out."""

from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from convlens.contract.pools import Pool


class ConfigError(Exception):
    """The file is wrong; the message has one line for each mistake."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class NetworkEntry(_Part):
    """One version of one network."""

    name: str = Field(pattern=r"^[A-Za-z0-9_.]+$")
    version: str = Field(default="1", pattern=r"^[A-Za-z0-9_.]+$")
    # What is built: "bundled:NAME", by default with the entry's own name, or "torchvision:NAME".
    builder: str = Field(default="", pattern=r"^((bundled|torchvision):\w+)?$")
    # A safetensors file. Bundled networks bring their own; "random" is for measuring speed.
    weights: Path | Literal["random"] | None = None
    # Share of the requests that name no version, against the other versions of the network.
    traffic_weight: float = Field(default=1.0, ge=0, le=1e6)

    @property
    def reference(self) -> str:
        """ "name@version"."""
        return f"{self.name}@{self.version}"


class PoolConfig(_Part):
    """How one pool of every network runs."""

    # Processes for each device; each holds the weights once.
    instances: int = Field(default=1, ge=1, le=64)
    # Threads of a CPU instance; 0 is torch's own choice.
    threads: int = Field(default=0, ge=0, le=1024)
    # How far the pool steps back for others on a busy CPU.
    niceness: int = Field(default=0, ge=0, le=19)
    # Jobs handed to a worker at a time.
    max_batch: int = Field(default=64, ge=1, le=1024)
    # How long Triton waits for company, in microseconds.
    queue_delay_us: int = Field(default=0, ge=0, le=1_000_000)
    # Jobs that may wait.
    queue_size: int = Field(default=256, ge=1, le=100_000)
    # Bytes of requests that may wait; a single larger one is taken when nothing else waits.
    queue_bytes: int = Field(default=512 * 2**20, ge=2**20)
    # Seconds that a job may wait; never 0, or Triton would ignore the caller's own.
    queue_timeout: float = Field(default=60.0, gt=0, le=86_400)
    # Passes under way above which an analysis pool takes no more jobs; what comes then, waits.
    budget: int = Field(default=100_000, ge=1)


class Pools(_Part):
    """The two pools of every network."""

    inference: PoolConfig = PoolConfig()
    # Long work steps back behind the short path, on a CPU by its niceness.
    analysis: PoolConfig = PoolConfig(niceness=19, max_batch=16)

    def of(self, pool: Pool) -> PoolConfig:
        """The configuration of a pool."""
        return self.inference if pool == "inference" else self.analysis


class Config(_Part):
    """networks.yaml."""

    # Served from the start.
    networks: list[NetworkEntry] = Field(default=[NetworkEntry(name="shapes")], min_length=1)
    # May be loaded while the server runs.
    loadable: list[NetworkEntry] = []
    pools: Pools = Pools()

    @model_validator(mode="after")
    def _each_once(self) -> "Config":
        seen: set[str] = set()
        for entry in self.entries:
            if entry.reference in seen:
                raise ValueError(f"{entry.reference} is listed twice")
            seen.add(entry.reference)
        return self

    @property
    def entries(self) -> list[NetworkEntry]:
        """Every version of every network, served or loadable."""
        return [*self.networks, *self.loadable]


def load_config(file: Path | None) -> Config:
    """The configuration in `file`, or the bundled networks; raises ConfigError."""
    if file is None:
        return Config()
    try:
        values: object = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
        return Config.model_validate(values)
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{file}: no YAML: {' '.join(str(error).split())}") from None
    except ValidationError as error:
        raise ConfigError("\n".join(_lines(file, error))) from None


def _lines(file: Path, error: ValidationError) -> list[str]:
    lines: list[str] = []
    for mistake in error.errors():
        place = ".".join(str(part) for part in mistake["loc"])
        text = mistake["msg"].removeprefix("Value error, ")
        lines.append(f"{file}: {place + ': ' if place else ''}{text}")
    return lines
