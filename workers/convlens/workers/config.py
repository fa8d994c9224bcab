"""networks.yaml: which networks are served, and how their pools are laid out."""

from pathlib import Path

from pydantic import Field, ValidationError, ValidationInfo, field_validator

from convlens.contract.pools import Pool
from convlens.workers.entries import NetworkEntry, Part
from convlens.workers.mistakes import raise_mistakes
from convlens.workers.yaml_file import ConfigError, YamlFile

__all__ = ["Config", "ConfigError", "NetworkEntry", "PoolConfig", "Pools", "load_config"]


class PoolConfig(Part):
    """How one pool of every network runs."""

    # Processes for each device; each holds the weights once.
    instances: int = Field(default=1, ge=1, le=64)
    # Threads of a CPU instance; 0 is torch's own choice.
    threads: int = Field(default=0, ge=0, le=1024)
    # How far the pool steps back for others on a busy CPU.
    niceness: int = Field(default=0, ge=0, le=19)
    # Jobs handed to a worker at a time.
    max_batch: int = Field(default=64, ge=1, le=1024)
    # Jobs that may wait.
    queue_size: int = Field(default=256, ge=1, le=100_000)
    # Bytes of requests that may wait; a single larger one is taken when nothing else waits.
    queue_bytes: int = Field(default=512 * 2**20, ge=2**20)
    # Passes under way above which an analysis pool takes no more jobs; what comes then, waits. Of a
    # long job a hundredth of the budget counts.
    budget: int = Field(default=100_000, ge=1)
    # Bytes that an analysis pool may take at a time, beside weights: three quarters or more for a
    # micro-batch, the rest for what sweeps keep of their pictures. 0 for 4 GiB on a CPU, and for
    # 40 % of a GPU's memory.
    memory_bytes: int = Field(default=0, ge=0)


class Pools(Part):
    """The two pools of every network."""

    inference: PoolConfig = PoolConfig()
    # Long work steps back behind the short path, on a CPU by its niceness.
    analysis: PoolConfig = PoolConfig(niceness=19, max_batch=16)

    def of(self, pool: Pool) -> PoolConfig:
        """The configuration of a pool."""
        return self.inference if pool == "inference" else self.analysis


class Config(Part):
    """networks.yaml."""

    # Served from the start.
    networks: list[NetworkEntry] = Field(default=[NetworkEntry(name="shapes")], min_length=1)
    # May be loaded while the server runs.
    loadable: list[NetworkEntry] = Field(default=[])
    pools: Pools = Pools()

    @field_validator("networks", "loadable")
    @classmethod
    def _each_once(cls, value: list[NetworkEntry], info: ValidationInfo) -> list[NetworkEntry]:
        references = [entry.reference for entry in (*info.data.get("networks", ()), *value)]
        for reference in references:
            if references.count(reference) > 1:
                raise ValueError(f"{reference} is listed twice; give one of them another version")
        return value

    @property
    def entries(self) -> list[NetworkEntry]:
        """Every version of every network, served or loadable."""
        return [*self.networks, *self.loadable]


def load_config(file: Path | None) -> Config:
    """The configuration in `file`, or the bundled networks.

    Raises ConfigError with every mistake of the file, each with its line.
    """
    if file is None:
        return Config()
    source = YamlFile(file)
    try:
        config = Config.model_validate(source.values, context={"folder": file.absolute().parent})
    except ValidationError as error:
        raise_mistakes(source, Config, error)
        raise
    raise_mistakes(source, Config, None)
    for key, entries in (("networks", config.networks), ("loadable", config.loadable)):
        for index, entry in enumerate(entries):
            keys = ("", *NetworkEntry.model_fields)
            entry.remember({name: source.at((key, index, name)) for name in keys})
    return config
