"""The scope that a token needs for each RPC."""

from collections.abc import Mapping
from typing import Literal, TypeAlias, get_args

from convlens.server.contract import RPCS, Rpc

Scope: TypeAlias = Literal["classify", "features", "explain", "attack", "synthesize", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)

SCOPE_OF_SERVICE: Mapping[str, Scope] = {
    "convlens.v1.ClassificationService": "classify",
    "convlens.v1.FeatureService": "features",
    "convlens.v1.ExplanationService": "explain",
    "convlens.v1.AdversarialService": "attack",
    "convlens.v1.SynthesisService": "synthesize",
}
# Of NetworkService each RPC says it by itself; None is any token.
SCOPE_OF_RPC: Mapping[str, Scope | None] = {
    "NetworkService/ListNetworks": None,
    "NetworkService/GetNetwork": None,
    "NetworkService/ListPretrained": None,
    "NetworkService/LoadNetwork": "admin",
    "NetworkService/UnloadNetwork": "admin",
}


def _needed(rpc: Rpc) -> Scope | None:
    return SCOPE_OF_RPC[rpc.name] if rpc.name in SCOPE_OF_RPC else SCOPE_OF_SERVICE[rpc.service]


# An RPC of the contract that nobody thought of ends the import: it shall not be open by mistake.
NEEDED: Mapping[str, Scope | None] = {path: _needed(rpc) for path, rpc in RPCS.items()}
