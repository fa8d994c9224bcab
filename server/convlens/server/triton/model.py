"""What a server knows of a model on one of its Tritons."""

import asyncio
import time
from dataclasses import dataclass, field

from convlens.server.triton.jobs import Asked


@dataclass
class Model:
    """A model as this server knows it."""

    healthy: bool = True
    last_reply: float = field(default_factory=time.monotonic)
    loaded: float = 0.0
    healing: "asyncio.Task[None] | None" = None
    # Whether its last reply was INTERNAL, and how often it was healed of that since a good one.
    failing: bool = False
    in_vain: int = 0
    asked: set[Asked] = field(default_factory=set[Asked])
