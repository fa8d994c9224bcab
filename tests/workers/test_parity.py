"""The gate that a network passes before it computes in bfloat16."""

import logging
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from convlens.v1 import network_pb2, receipt_pb2
from convlens.workers.catalog import load_network
from convlens.workers.config import NetworkEntry
from convlens.workers.network import Computation, ServedNetwork
from convlens.workers.parity import compared, pass_gate


class Cancelling(nn.Module):
    """Scores that are small differences of large numbers, which eight bits do not hold."""

    def __init__(self, offset: float, channels: int = 3) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.convolution = nn.Conv2d(channels, 8, 3, stride=2)
        self.scores = nn.Linear(8, 4)
        self.offset = offset

    def forward(self, x: Tensor) -> Tensor:
        codes = self.convolution(x).mean((2, 3)) + self.offset
        return self.scores(codes) - self.scores(torch.full_like(codes, self.offset))


def served(body: nn.Module, channels: int = 3, **more: Any) -> ServedNetwork:
    size = network_pb2.InputGeometry(
        height=32, width=48, channels=channels, mean=[0.5] * channels, std=[0.25] * channels
    )
    facts = network_pb2.Network(name="n", version="3", input=size)
    return ServedNetwork(body, facts, torch.device("cpu"), Computation(bfloat16=True, **more))


def test_shapes_passes() -> None:
    network = load_network(NetworkEntry(name="shapes", precision="bf16"))
    parity = network.facts.parity
    assert (parity.pictures, parity.passed) == (12, True)
    assert parity.top1_agreement == 1
    assert 0 < parity.score_error < 0.05
    assert network.receipt().precision == receipt_pb2.PRECISION_BFLOAT16


def test_float32_is_compared_with_nothing() -> None:
    network = load_network(NetworkEntry(name="shapes"))
    assert not network.facts.HasField("parity")


@pytest.mark.parametrize("channels", [1, 3])
def test_a_network_that_loses_its_digits_is_served_in_float32(
    channels: int, caplog: pytest.LogCaptureFixture
) -> None:
    body = Cancelling(1e3, channels)
    network, plain = served(body, channels), served(body, channels)
    plain.compute_in(bfloat16=False)
    with caplog.at_level(logging.WARNING):
        pass_gate(network)
    assert not network.facts.parity.passed
    assert network.facts.parity.score_error > 0.05
    assert network.facts.precision == network.receipt().precision == receipt_pb2.PRECISION_FLOAT32
    pixels = torch.rand(2, channels, 32, 48)
    assert torch.equal(network.logits(pixels), plain.logits(pixels))
    [record] = caplog.records
    assert record.getMessage().startswith("n@3: bf16 gives the best class of fp32 on ")
    assert record.getMessage().endswith(": served in fp32")


def test_the_same_network_passes_where_it_loses_none() -> None:
    network = served(Cancelling(0.0))
    pass_gate(network)
    assert network.facts.parity.passed and network.module.in_bfloat16


@pytest.mark.parametrize(
    ("rounded", "agreement", "error", "passed"),
    [
        ([[1.0, 4.0], [-4.0, 1.0]], 1.0, 0.0, True),
        ([[1.0, 3.9], [-4.0, 1.1]], 1.0, 0.025, True),
        ([[1.0, 3.0], [-4.0, 1.0]], 1.0, 0.25, False),
        ([[1.0, 4.0], [4.0, 1.0]], 0.5, 2.0, False),
    ],
)
def test_what_is_compared(
    rounded: list[list[float]], agreement: float, error: float, passed: bool
) -> None:
    parity = compared(torch.tensor(rounded), torch.tensor([[1.0, 4.0], [-4.0, 1.0]]))
    assert parity.top1_agreement == agreement
    assert parity.score_error == pytest.approx(error, abs=1e-6)
    assert parity.passed == passed


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_scores_that_are_not_finite_never_pass(value: float) -> None:
    scores = torch.tensor([[1.0, value], [2.0, 1.0]])
    assert not compared(scores, torch.tensor([[1.0, 4.0], [2.0, 1.0]])).passed
    assert not compared(scores, scores).passed
