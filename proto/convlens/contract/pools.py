"""The pools of a network: which services they stand behind, and what they are called."""

from collections.abc import Mapping
from typing import Literal, TypeAlias

Pool: TypeAlias = Literal["inference", "analysis"]
POOLS: tuple[Pool, ...] = ("inference", "analysis")

# Jobs that no caller sends: what a network is, and whether its pool can compute.
DESCRIBE = "Describe"
CANARY = "Canary"

# The pool behind each service; NetworkService needs none.
POOL_OF_SERVICE: Mapping[str, Pool] = {
    "convlens.v1.ClassificationService": "inference",
    "convlens.v1.FeatureService": "inference",
    "convlens.v1.ExplanationService": "analysis",
    "convlens.v1.AdversarialService": "analysis",
    "convlens.v1.SynthesisService": "analysis",
}


def model_name(network: str, version: str, pool: Pool) -> str:
    """The name of the Triton model that is this pool of this version of the network."""
    return f"{network}@{version}-{pool}"


def network_of(model: str) -> tuple[str, str, Pool] | None:
    """Network, version and pool of a Triton model, or None where it is none of ours."""
    reference, _, end = model.rpartition("-")
    name, _, version = reference.rpartition("@")
    for pool in POOLS:
        if end == pool and name and version:
            return name, version, pool
    return None
