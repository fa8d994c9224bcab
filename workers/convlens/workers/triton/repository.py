"""Writes a Triton model repository: one model for each pool of each network."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from convlens.contract.pools import POOLS, Pool, model_name
from convlens.workers.config import Config, NetworkEntry, PoolConfig

MODEL = Path(__file__).with_name("model.py")


def write_repository(
    config: Config, gpus: int, out: Path, pools: Sequence[Pool] = POOLS
) -> list[str]:
    """Writes `out`/NAME/config.pbtxt and the model, for `gpus` GPUs; returns the names.

    The same configuration gives the same bytes. What is in `out` already is left alone, unless it
    is a model of the same name. Raises ConfigError where an entry's device is not there.
    """
    names: list[str] = []
    lists = _lists(config, pools)
    for entry in config.entries:
        for pool in pools:
            name = model_name(entry.name, entry.version, pool)
            folder = out / name
            (folder / "1").mkdir(parents=True, exist_ok=True)
            text = model_config(entry, pool, config.pools.of(pool), lists, gpus)
            (folder / "config.pbtxt").write_text(text, encoding="utf-8")
            shutil.copyfile(MODEL, folder / "1" / "model.py")
            names.append(name)
    return names


def _lists(config: Config, pools: Sequence[Pool]) -> str:
    """What is served from the start, in order, what may be loaded, and pools where one is missing.

    Every model carries it, for the server: Triton tells nothing of a model that is not loaded but
    its name.
    """
    return json.dumps(
        {
            "networks": [entry.reference for entry in config.networks],
            "loadable": [entry.reference for entry in config.loadable],
            **({} if tuple(pools) == POOLS else {"pools": list(pools)}),
        }
    )


def model_config(
    entry: NetworkEntry, pool: Pool, settings: PoolConfig, lists: str, gpus: int
) -> str:
    """The config.pbtxt of one pool of one network."""
    chosen = gpus_of(entry, gpus)
    kind = f"KIND_GPU\n    gpus: {chosen}" if chosen else "KIND_CPU"
    return f"""\
name: "{model_name(entry.name, entry.version, pool)}"
backend: "python"
max_batch_size: 0
input [
  {{ name: "request" data_type: TYPE_UINT8 dims: [ -1 ] }}
]
output [
  {{ name: "response" data_type: TYPE_UINT8 dims: [ -1 ] }}
]
instance_group [
  {{
    count: {settings.instances}
    kind: {kind}
  }}
]
model_transaction_policy {{ decoupled: true }}
{_parameter("network", entry.model_dump_json(exclude_defaults=True))}
{_parameter("pool", settings.model_dump_json())}
{_parameter("lists", lists)}
{_parameter("generation", "0")}
"""


def gpus_of(entry: NetworkEntry, count: int) -> list[int]:
    """The GPUs that an entry's device means, of as many as there are; none is the CPU."""
    if entry.device in ("auto", "cuda"):
        if not count and entry.device == "cuda":
            raise entry.mistake("device", "there is no GPU; use auto or cpu")
        return list(range(count))
    if entry.device == "cpu":
        return []
    index = int(entry.device.partition(":")[2])
    if index >= count:
        raise entry.mistake("device", f"there is no {entry.device}; the GPUs are {count}")
    return [index]


def _parameter(key: str, value: str) -> str:
    quoted = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'parameters {{ key: "{key}" value {{ string_value: "{quoted}" }} }}'
