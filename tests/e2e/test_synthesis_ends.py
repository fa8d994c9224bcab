"""Syntheses that are given up are computed no more, and many of them leave nothing behind."""

import gc
import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
from torch import nn

from convlens.v1 import synthesis_methods_pb2 as methods
from convlens.v1.synthesis_pb2_grpc import SynthesisServiceStub
from convlens.v1.target_pb2 import Target
from tests.conftest import RunningServer, running_server, triton_is_slow
from tests.e2e.test_synthesize import METHODS, STAR, request, run

# It counts its passes as they begin; in a third of a second a call is cancelled on any machine.
MODULE = """\
import time
from pathlib import Path

from torch import nn


class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        self.stack = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))

    def forward(self, x):
        with Path(__file__).with_name("passes").open("ab") as file:
            file.write(b".")
        time.sleep(0.3)
        return self.stack(x)
"""
NETWORKS = """\
networks:
  - name: counting
    builder: "counting:Counting"
    path: {folder}
    labels: [a, b, c]
    input: {{size: 8, mean: [0.5, 0.5, 0.5], std: [0.25, 0.25, 0.25]}}
"""


@pytest.mark.parametrize(
    "engine", ["embedded", pytest.param("triton-local", marks=pytest.mark.slow)]
)
def test_a_synthesis_that_is_cancelled_makes_not_another_step(engine: str, tmp_path: Path) -> None:
    (tmp_path / "counting.py").write_text(MODULE)
    file, passes = tmp_path / "networks.yaml", tmp_path / "passes"
    file.write_text(NETWORKS.format(folder=tmp_path))
    asked = request(methods.ClassModel(target=Target(class_index=0), steps=1000))
    with running_server(engine=engine, networks=file) as server, server.channel() as channel:
        call: Any = SynthesisServiceStub(channel).Synthesize(asked, timeout=60)
        steps = [next(call).progress.step for _ in range(3)]
        begun = passes.stat().st_size
        call.cancel()
        time.sleep(1.5)
        assert steps == [1, 2, 3]
        # The step that was under way when the caller left; it may just have been beginning.
        assert begun >= 3
        assert passes.stat().st_size - begun <= 1


def megabytes() -> int:
    own = psutil.Process()
    processes = [own, *own.children(recursive=True)]
    return sum(each.memory_info().rss for each in processes) >> 20


def rounds(stub: Any, file: Path) -> Iterator[None]:
    """Every method, over and over; some are given up, and some are refused."""
    for seed in itertools.count():
        for make in METHODS.values():
            assert run(stub, request(make(file), preview_every=2, seed=seed))
        call = stub.Synthesize(request(methods.ClassModel(target=STAR, steps=10_000)), timeout=60)
        next(call)
        call.cancel()
        with pytest.raises(grpc.RpcError):
            run(stub, request(methods.UnitMaximization(layer="none")))
        yield


def hooks() -> list[nn.Module]:
    """The modules of this process that have any."""
    return [
        each
        for each in gc.get_objects()
        if issubclass(type(each), nn.Module)
        and (
            each._forward_hooks
            or each._forward_pre_hooks
            or each._backward_hooks
            or each._backward_pre_hooks
        )
    ]


def test_a_hook_that_is_left_would_be_seen() -> None:
    module, before = nn.ReLU(), len(hooks())
    handle = module.register_forward_hook(lambda *_: None)
    assert len(hooks()) == before + 1
    handle.remove()
    assert len(hooks()) == before


def check_endurance(
    server: RunningServer, file: Path, warm: float, seconds: float, capsys: Any
) -> None:
    before = len(hooks())
    with server.channel() as channel:
        again = rounds(SynthesisServiceStub(channel), file)
        until = time.monotonic() + warm
        while time.monotonic() < until:
            next(again)
        memory, until = [megabytes()], time.monotonic() + seconds
        while time.monotonic() < until:
            next(again)
            memory.append(megabytes())
    with capsys.disabled():
        print(f"\n{server.engine_name}, {len(memory)} rounds of synthesis: {memory[::50]} MB")
    third = len(memory) // 3 + 1
    early, late = min(memory[:third]), min(memory[-third:])
    assert late < early * 1.02 + 30, memory
    assert len(hooks()) == before


@triton_is_slow
def test_synthesis_again_and_again_leaves_nothing(
    server: RunningServer, pictures: list[Path], capsys: Any
) -> None:
    check_endurance(server, pictures[0], 1.5, 4, capsys)


@pytest.mark.slow
def test_synthesis_for_half_an_hour_leaves_nothing(
    server: RunningServer, pictures: list[Path], capsys: Any
) -> None:
    check_endurance(server, pictures[0], 30, 900, capsys)
