"""The method proposes, this verifies: shape and finiteness of what it found."""

import torch
from torch import Tensor

from convlens.contract import ErrorReason, Failure
from convlens.v1 import explanation_pb2
from convlens.workers import teams
from convlens.workers.anatomy import Reading, Tap
from convlens.workers.explain.found import Found
from convlens.workers.explain.subject import Subject


def verify(subject: Subject, title: str, found: Found, x: Tensor) -> None:
    """Raises Failure NOT_FINITE where a map has other values than finite numbers."""
    if found.map is None:
        return
    if found.space == explanation_pb2.MAP_SPACE_INPUT_PIXELS and found.map.shape[:2] != x.shape[1:]:
        raise ValueError(f"{title} gave a map of shape {list(found.map.shape)}")
    if not bool(found.map.isfinite().all()):
        raise not_finite(subject, title, x, "the map has NaN or infinite values")


def not_finite(subject: Subject, title: str, x: Tensor, detail: str) -> Failure:
    """What a caller is told; it names the first layer whose output for x is not finite."""
    layer = _first_layer(subject, x)
    where = f"{detail}, first in the output of layer {layer}" if layer else detail
    return Failure(
        ErrorReason.ERROR_REASON_NOT_FINITE, method=title, network=subject.reference, detail=where
    )


def _first_layer(subject: Subject, x: Tensor) -> str | None:
    """The first layer whose output is not finite for x."""
    network = subject.network
    names = {node.call: name for name, node in network.trace.nodes.items() if node.call is not None}
    broken: list[str] = []

    def look(name: str) -> Tap:
        def tap(output: Tensor) -> None:
            if not bool(output.isfinite().all()):
                broken.append(name)

        return tap

    taps = {call: look(name) for call, name in names.items() if name}
    with torch.inference_mode(), teams.together():
        Reading(network.trace, taps).run(network.module, network.place(x[None]))
    return broken[0] if broken else None
