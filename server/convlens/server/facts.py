"""What a call turned out to ask for, for its metrics: words of the contract and served networks."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.message import Message

# Of messages that ask for methods: what they call them.
FIELDS = {"ExplainRequest": "methods", "RobustnessPlan": "attacks"}
SINGLE = {"AttackRequest": "method", "SynthesizeRequest": "method"}
# Messages around these.
AROUND = {"ExplainStreamRequest": "request", "AttackStreamRequest": "request"}
SEVERAL = "several"


@dataclass
class Facts:
    """When a call came and its job left for the engine, on `time.monotonic`, and what it asks for.

    `network` is a served one, as name@version; empty where none was found.
    """

    arrived: float = field(default_factory=time.monotonic)
    sent: float = 0.0
    network: str = ""
    methods: Sequence[str] = ()

    @property
    def method(self) -> str:
        """The one method; `several` where there are more, and empty where there is none."""
        kinds = set(self.methods)
        return SEVERAL if len(kinds) > 1 else next(iter(kinds), "")

    @property
    def admit_seconds(self) -> float:
        """From its arrival until the engine got its job."""
        return max(0.0, self.sent - self.arrived)


def methods_of(request: Message) -> Sequence[str]:
    """The methods that a checked request asks for, as the contract names them."""
    name = request.DESCRIPTOR.name
    if name in AROUND:
        return methods_of(getattr(request, AROUND[name]))
    methods: Sequence[Any] = ()
    if name in FIELDS:
        methods = getattr(request, FIELDS[name])
    elif name in SINGLE:
        methods = [getattr(request, SINGLE[name])]
    return [each.WhichOneof("method") for each in methods]
