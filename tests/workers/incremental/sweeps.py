"""Sweeps of windows both ways: by what they change, and by whole passes."""

from typing import Any

import torch
from torch import Tensor

from convlens.v1 import explanation_methods_pb2 as pb
from convlens.workers.anatomy.fields import maps
from convlens.workers.incremental import FullPasses, Incremental, Plan
from convlens.workers.methods.occlusion import Grid, OcclusionResult, occlusion
from tests.workers.methods.small import Small, run

TARGET = 2


def planned(
    network: Small,
    window: int,
    stride: int,
    layer: str | None = None,
    threshold: float = 1.0,
    worth: float = 0.85,
) -> Plan | FullPasses:
    _, height, width = network.trace.image
    grid = Grid(height, width, window, stride)
    capture = () if layer is None else (network.trace.call(layer),)
    engine = Incremental(network, True, worth)
    return engine.plan(grid.rows, grid.columns, grid.lots, capture, threshold)


def plan_of(network: Small, window: int, stride: int, **given: Any) -> Plan:
    """A plan where there is one."""
    found = planned(network, window, stride, **given)
    assert isinstance(found, Plan), found
    return found


def swept(
    network: Small,
    x: Tensor,
    fill: Tensor,
    window: int,
    stride: int,
    way: Plan | FullPasses,
    layer: str | None = None,
    rows: int = 4,
    **given: Any,
) -> OcclusionResult:
    p = pb.Occlusion(window=window, stride=stride, projective_threshold=1, **given)
    call = None if layer is None else network.trace.call(layer)
    place = None if call is None else maps(network.trace)[call]
    steps = occlusion(x, TARGET, p, fill, call, place.axes if place else None, way)
    return run(network, steps, rows)


def check_same(
    network: Small,
    x: Tensor,
    window: int,
    stride: int,
    limit: float,
    layer: str | None = None,
    **given: Any,
) -> None:
    """Both ways find the same, and windows matter."""
    plan = plan_of(network, window, stride, layer=layer, **given)
    fill = torch.full_like(x, 0.5)
    found = swept(network, x, fill, window, stride, plan, layer)
    expected = swept(network, x, fill, window, stride, FullPasses("for comparison"), layer)
    scores = network.module(network.place(x[None]))[0]
    assert expected.map.abs().max() > 0.003 * scores.abs().max(), "windows matter"
    apart = float((found.map - expected.map).abs().max() / expected.map.abs().max())
    assert apart <= limit, apart
    assert found.full_passes_reason == "" and expected.full_passes_reason
    assert torch.allclose(found.probability, expected.probability, atol=limit)
    if layer is not None:
        assert found.activation is not None and expected.activation is not None
        largest = float(expected.activation.abs().max())
        assert expected.activation.std() > 0
        assert (found.activation - expected.activation).abs().max() <= limit * largest
        assert found.watched_map_index == expected.watched_map_index
