"""The shared memory that a Triton needs for what its repository has."""

from collections.abc import Sequence

from convlens.contract.pools import POOLS, Pool
from convlens.contract.shared_memory import shared_memory
from convlens.workers.config import Config
from convlens.workers.triton.repository import gpus_of


def shared_memory_of(
    config: Config, gpus: int, message_bytes: int, pools: Sequence[Pool] = POOLS
) -> int:
    """Bytes of /dev/shm for the pools on `gpus` GPUs, with messages of up to `message_bytes`.

    A model that is healed has its old workers and its new ones at the same time, so those of the
    largest count twice. Raises ConfigError where an entry's device is not there.
    """
    workers = [
        config.pools.of(pool).instances * max(1, len(gpus_of(entry, gpus)))
        for entry in config.entries
        for pool in pools
    ]
    return shared_memory(message_bytes, sum(workers) + max(workers))
