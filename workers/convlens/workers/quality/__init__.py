"""How good a map is, by measures that ask the network."""

from convlens.workers.quality.completeness import completeness
from convlens.workers.quality.curves import Curve, deletion, insertion
from convlens.workers.quality.randomization import model_randomization, through
from convlens.workers.quality.redrawn import Redrawn, Variants
from convlens.workers.quality.sensitivity import max_sensitivity

__all__ = [
    "Curve",
    "Redrawn",
    "Variants",
    "completeness",
    "deletion",
    "insertion",
    "max_sensitivity",
    "model_randomization",
    "through",
]
