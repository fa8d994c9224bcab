"""How good a map is, by measures that ask the network."""

from convlens.workers.quality.completeness import completeness, missed
from convlens.workers.quality.curves import Curve, deletion, insertion
from convlens.workers.quality.randomization import model_randomization, through
from convlens.workers.quality.redrawn import Redrawn, Variants, all_weights, weights_from
from convlens.workers.quality.sensitivity import max_sensitivity

__all__ = [
    "Curve",
    "Redrawn",
    "Variants",
    "all_weights",
    "completeness",
    "deletion",
    "insertion",
    "max_sensitivity",
    "missed",
    "model_randomization",
    "through",
    "weights_from",
]
