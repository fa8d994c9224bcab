"""What a model repository says of its networks: served from the start, or loadable; and pools."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from convlens.contract.pools import POOLS, Pool, network_of

# The parameter of every model that convlens-workers wrote.
PARAMETER = "lists"


@dataclass(frozen=True)
class Lists:
    """The lists of networks.yaml, "name@version" each, and the pools that the repository has.

    A foreign repository has no lists.
    """

    networks: tuple[str, ...] = ()
    loadable: tuple[str, ...] = ()
    pools: tuple[Pool, ...] = POOLS

    @classmethod
    def of(cls, parameters: Mapping[str, Any]) -> "Lists":
        """The lists that the parameters of a model carry."""
        if PARAMETER not in parameters:
            return cls()
        found = json.loads(parameters[PARAMETER]["string_value"])
        told = found.get("pools") or POOLS
        pools: list[Pool] = [pool for pool in POOLS if pool in told]
        return cls(tuple(found["networks"]), tuple(found["loadable"]), tuple(pools))


def first_models(loaded: Sequence[str]) -> dict[str, str]:
    """The first loaded pool of each network, by "name@version"."""
    found: dict[str, str] = {}
    for pool in POOLS:
        for model in loaded:
            known = network_of(model)
            if known and known[2] == pool:
                found.setdefault(f"{known[0]}@{known[1]}", model)
    return found
