"""The operations, said once for both clients: what each sends and what it makes of the answer.

A new operation is a function in here, of the client's settings and what its caller gives, that
returns an Operation, a Stream, a Survey, a Watch or its Last; and one line in each of Client and
AsyncClient.
"""

from convlens.client._operations.adversarial import attack, attack_stream, estimate_attack
from convlens.client._operations.base import Last, OnError, Operation, Stream, Survey, Watch
from convlens.client._operations.classification import classify, classify_stream
from convlens.client._operations.explanation import estimate, explain, explain_stream
from convlens.client._operations.features import extract_features, extract_features_stream
from convlens.client._operations.networks import health, network, networks, pretrained
from convlens.client._operations.robustness import estimate_robustness, evaluate_robustness
from convlens.client._operations.synthesis import (
    estimate_synthesis,
    synthesize,
    synthesize_to_end,
)

__all__ = [
    "Last",
    "OnError",
    "Operation",
    "Stream",
    "Survey",
    "Watch",
    "attack",
    "attack_stream",
    "classify",
    "classify_stream",
    "estimate",
    "estimate_attack",
    "estimate_robustness",
    "estimate_synthesis",
    "evaluate_robustness",
    "explain",
    "explain_stream",
    "extract_features",
    "extract_features_stream",
    "health",
    "network",
    "networks",
    "pretrained",
    "synthesize",
    "synthesize_to_end",
]
