"""What a call turned out to ask for, for its metrics: words of the contract and served networks."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.message import Message

from convlens.internal.v1.job_pb2 import Stages

# Of messages that ask for methods: what they call them.
FIELDS = {"ExplainRequest": "methods", "RobustnessPlan": "attacks"}
SINGLE = {"AttackRequest": "method", "SynthesizeRequest": "method"}
# Messages around these.
AROUND = {"ExplainStreamRequest": "request", "AttackStreamRequest": "request"}
SEVERAL = "several"
# Stages of a job as they are called in logs, by their names in Stages.
STAGES = {"queue": "wait", "decode": "decode", "compute": "compute", "encode": "encode"}


@dataclass
class Facts:
    """When a call came and its job left for the engine, on `time.monotonic`, and what it asks for.

    `network` is a served one, as name@version; empty where none was found.
    """

    arrived: float = field(default_factory=time.monotonic)
    sent: float = 0.0
    network: str = ""
    methods: Sequence[str] = ()
    #: Passes that it may need, and where its time went; once it is admitted, and answered.
    passes: int = 0
    stages: Stages | None = None
    #: When the answer came that told them.
    answered: float = 0.0

    def told(self) -> dict[str, object]:
        """What the log has of it, as far as it is known; stages are in milliseconds."""
        told: dict[str, object] = {}
        if self.network:
            told["network"] = self.network
        if self.methods:
            told["method"] = self.method
        if self.passes:
            told["passes"] = self.passes
        if stages := self.stages:
            told["admit"] = round(self.admit_seconds * 1000, 3)
            for name in STAGES:
                told[name] = getattr(stages, f"{STAGES[name]}_us") / 1000
        return told

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
