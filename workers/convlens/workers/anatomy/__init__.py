"""What a network is made of: one traced forward pass, and what it tells about every layer.

`trace` looks at the calls of a forward pass once, when a network is loaded; `read` gets the outputs
of some of them from a later pass.
"""

from convlens.workers.anatomy.describe import describe
from convlens.workers.anatomy.reading import Reading, Tap, Unsteady, is_steady, read
from convlens.workers.anatomy.removal import Removal, removal
from convlens.workers.anatomy.trace import trace
from convlens.workers.anatomy.values import INPUT, Call, Node, Trace, Value

__all__ = [
    "INPUT",
    "Call",
    "Node",
    "Reading",
    "Removal",
    "Tap",
    "Trace",
    "Unsteady",
    "Value",
    "describe",
    "is_steady",
    "read",
    "removal",
    "trace",
]
