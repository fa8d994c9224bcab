"""What a model repository says of its networks: served from the start, or loadable."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# The parameter of every model that convlens-workers wrote.
PARAMETER = "lists"


@dataclass(frozen=True)
class Lists:
    """The lists of networks.yaml, "name@version" each. A foreign repository has none."""

    networks: tuple[str, ...] = ()
    loadable: tuple[str, ...] = ()

    @classmethod
    def of(cls, parameters: Mapping[str, Any]) -> "Lists":
        """The lists that the parameters of a model carry."""
        if PARAMETER not in parameters:
            return cls()
        found = json.loads(parameters[PARAMETER]["string_value"])
        return cls(tuple(found["networks"]), tuple(found["loadable"]))
