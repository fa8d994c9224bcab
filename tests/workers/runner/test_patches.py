"""Sweeps by patches on the runner: of several pictures, and where memory or the network fail."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from convlens.v1 import explanation_methods_pb2 as pb
from convlens.workers.explain.subject import Subject
from convlens.workers.incremental import FullPasses, Plan
from convlens.workers.methods.occlusion import Grid, OcclusionResult, occlusion
from convlens.workers.network import ServedNetwork
from convlens.workers.runner import Steps, patching
from tests.workers.runner.jobs import Asked, picture, running

WINDOW, STRIDE, TARGET = 24, 16, 3
WHOLE = FullPasses("for comparison")


@pytest.fixture
def plan(network: ServedNetwork) -> Plan:
    """A plan of its own, which nobody else's failures are noted in."""
    grid = Grid(128, 128, WINDOW, STRIDE)
    found = Subject(network).incremental.plan(grid.rows, grid.columns, grid.lots)
    assert isinstance(found, Plan)
    return found


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The rows of every micro-batch of patches that is begun."""
    seen: list[int] = []
    flow = patching.flow

    def noted(body: Any, course: Any, parts: Any, patches: Tensor) -> Any:
        seen.append(len(patches))
        return flow(body, course, parts, patches)

    monkeypatch.setattr(patching, "flow", noted)
    return seen


def sweep(seed: int, way: Plan | FullPasses) -> Callable[[], Steps[OcclusionResult]]:
    x = picture(seed)[0]
    p = pb.Occlusion(window=WINDOW, stride=STRIDE, projective_threshold=1)
    return lambda: occlusion(x, TARGET, p, torch.full_like(x, 0.5), None, None, way)


def maps(
    network: ServedNetwork, way: Plan | FullPasses, *seeds: int, **given: Any
) -> list[OcclusionResult]:
    """What comes of a job with a picture for each seed."""
    with running(network, **given) as runner:
        job = Asked(*(sweep(seed, way) for seed in seeds))
        runner.submit(job)
        assert job.wait() == "done"
    found: list[Any] = [job.outcomes[index] for index in range(len(seeds))]
    assert all(isinstance(each, OcclusionResult) for each in found), found
    return found


def near(found: OcclusionResult, expected: OcclusionResult) -> bool:
    largest = expected.map.abs().max()
    return bool(largest > 0.1 and (found.map - expected.map).abs().max() < 1e-4 * largest)


@pytest.mark.parametrize("share", [False, True])
def test_pictures_of_a_job_share_micro_batches(
    network: ServedNetwork, plan: Plan, rows: list[int], share: bool
) -> None:
    together = maps(network, plan, 1, 2, 3, share=share)
    count = len(rows)
    apart = [maps(network, plan, seed, share=share)[0] for seed in (1, 2, 3)]
    assert count < len(rows) - count
    for seed, one, alone in zip((1, 2, 3), together, apart, strict=True):
        assert near(one, maps(network, WHOLE, seed)[0])
        assert near(one, alone)
        assert one.full_passes_reason == ""
    assert not plan.shelf._ready


def test_rows_are_more_than_those_of_whole_passes(
    network: ServedNetwork, plan: Plan, rows: list[int]
) -> None:
    maps(network, plan, 1, 2)
    assert max(rows) > network.facts.rows
    least = min(course.row_bytes for course in plan.courses)
    rows.clear()
    found = maps(network, plan, 1, 2, memory=5 * least)
    assert max(rows) <= 5
    assert near(found[0], maps(network, WHOLE, 1)[0])


def test_memory_that_ends_halves_the_rows(
    network: ServedNetwork, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    flow, seen = patching.flow, list[int]()

    def full(body: Any, course: Any, parts: Any, patches: Tensor) -> Any:
        seen.append(len(patches))
        if len(patches) > 6:
            raise torch.OutOfMemoryError("no more")
        return flow(body, course, parts, patches)

    monkeypatch.setattr(patching, "flow", full)
    [found] = maps(network, plan, 1)
    assert max(seen) > 6 and seen[-1] <= 6
    assert near(found, maps(network, WHOLE, 1)[0])
    assert found.full_passes_reason == ""


def test_a_network_that_breaks_on_a_patch_goes_the_full_way(
    network: ServedNetwork, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    flow, calls = patching.flow, list[int]()

    def breaks(body: Any, course: Any, parts: Any, patches: Tensor) -> Any:
        calls.append(len(patches))
        if len(calls) > 1:
            raise ValueError("a size it has not met")
        return flow(body, course, parts, patches)

    monkeypatch.setattr(patching, "flow", breaks)
    [found] = maps(network, plan, 1)
    assert near(found, maps(network, WHOLE, 1)[0])
    assert "does not take parts of its maps (ValueError: a size" in found.full_passes_reason
    # The next one is tried by patches again.
    calls.clear()
    monkeypatch.setattr(patching, "flow", flow)
    [again] = maps(network, plan, 1)
    assert again.full_passes_reason == "" and near(again, found)


def test_who_leaves_leaves_nothing_behind(network: ServedNetwork, plan: Plan) -> None:
    with running(network) as runner:
        job = Asked(sweep(1, plan), sweep(2, plan), seconds=0.15)
        runner.submit(job)
        job.wait()
    assert not plan.shelf._ready
