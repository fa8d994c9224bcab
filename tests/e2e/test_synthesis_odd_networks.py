"""Pictures for networks without numbers: what can be made is made, and nothing is silent."""

import sys
from collections.abc import Iterator
from typing import Any

import pytest

from convlens.contract.errors import ErrorReason, Failure
from convlens.v1 import synthesis_methods_pb2 as methods
from convlens.v1 import synthesis_pb2 as pb
from convlens.v1.synthesis_pb2_grpc import SynthesisServiceStub
from convlens.v1.target_pb2 import Target
from tests.conftest import running_server
from tests.e2e.test_synthesize import request, run

MODULE = """\
import torch
from torch import nn


class Partly(nn.Module):
    # It knows nothing of pictures of b, which noise is not.
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.stack = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))

    def forward(self, x):
        scores = self.stack(x) - torch.tensor([0, 0.3, 0])
        return scores.masked_fill(scores.argmax(1, keepdim=True) == 1, float("nan"))


class Broken(Partly):
    def forward(self, x):
        return super().forward(x) * float("nan")
"""
NETWORKS = """\
networks:
  - {name: partly, builder: "partly:Partly", path: FOLDER, labels: [a, b, c], input: &input
     {size: 8, mean: [0.5, 0.5, 0.5], std: [0.25, 0.25, 0.25]}}
  - {name: broken, builder: "partly:Broken", path: FOLDER, labels: [a, b, c], input: *input}
"""


@pytest.fixture(scope="module")
def stub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    folder = tmp_path_factory.mktemp("partly")
    (folder / "partly.py").write_text(MODULE)
    file = folder / "networks.yaml"
    file.write_text(NETWORKS.replace("FOLDER", str(folder)))
    path = list(sys.path)
    with running_server(engine="embedded", networks=file) as server, server.channel() as opened:
        yield SynthesisServiceStub(opened)
    sys.path[:] = path
    sys.modules.pop("partly", None)


def reason(item: pb.SynthesisItem) -> int | None:
    """Why there is no picture; None where there is one."""
    failure = Failure.from_status(item.error) if item.HasField("error") else None
    return failure.reason if failure else None


def items(answer: list[Any]) -> dict[int, pb.SynthesisItem]:
    return {each.picture_index: each for each in answer if isinstance(each, pb.SynthesisItem)}


def test_a_picture_that_cannot_be_made_keeps_nobody_from_the_others(stub: Any) -> None:
    fooling = methods.Fooling(gradient=methods.FoolingGradient(steps=40))
    answer = run(stub, request(fooling, network="partly", preview_every=1))
    found = items(answer)
    bad = ErrorReason.ERROR_REASON_NOT_FINITE
    assert {number: reason(item) for number, item in found.items()} == {0: None, 1: bad, 2: None}
    assert "Fooling images" in found[1].error.message
    done = answer[-1]
    assert not done.checkpoint and done.HasField("receipt") and not done.is_partial
    fooling.targets.add(class_index=2)
    [alone] = items(run(stub, request(fooling, network="partly"))).values()
    fooling.targets[0].class_index = 0
    assert alone.picture.png and alone.picture.target.label == "c"
    # Its random numbers are those of its place in the request.
    [first] = items(run(stub, request(fooling, network="partly"))).values()
    assert first.picture.SerializeToString(deterministic=True) == found[
        0
    ].picture.SerializeToString(deterministic=True)


def test_a_network_without_numbers_is_named(stub: Any) -> None:
    for asked in (
        methods.ClassModel(target=Target(label="a"), steps=2),
        methods.Fooling(direct=methods.FoolingDirect(evaluations=8, offspring=8)),
    ):
        answer = run(stub, request(asked, network="broken"))
        assert isinstance(answer[-1], pb.SynthesisDone)
        assert {reason(item) for item in items(answer).values()} == {
            ErrorReason.ERROR_REASON_NOT_FINITE
        }
