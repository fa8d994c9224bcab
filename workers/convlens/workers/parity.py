"""Sees whether bfloat16 is good enough for a network, by a few pictures."""

import logging

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from convlens.v1 import network_pb2
from convlens.workers.network import ServedNetwork

log = logging.getLogger(__name__)

# Eight bits of mantissa leave 0.2 to 2 % of the largest score on networks of every depth; a network
# that has lost its digits is far beyond.
LARGEST_ERROR = 0.05
# One picture of twelve may lie where two classes are as good as equal.
LEAST_AGREEMENT = 0.9


def pass_gate(network: ServedNetwork) -> None:
    """Compares bfloat16 with float32 and keeps it where they agree; `facts.parity` says how.

    Before the network is traced, and before anybody else computes.
    """
    pictures = _pictures(network)
    network.compute_in(bfloat16=False)
    exact = _scores(network, pictures)
    network.compute_in(bfloat16=True)
    parity = compared(_scores(network, pictures), exact)
    network.compute_in(parity.passed)
    network.facts.parity.CopyFrom(parity)
    if not parity.passed:
        facts = network.facts
        log.warning("%s@%s: %s", facts.name, facts.version, in_figures(parity))


def in_figures(parity: network_pb2.Parity) -> str:
    """The outcome in one line: what was compared, and what the network computes in."""
    return (
        f"bf16 gives the best class of fp32 on {100 * parity.top1_agreement:.0f} % of "
        f"{parity.pictures} pictures and scores within {100 * parity.score_error:.1f} %: served in "
        f"{'bf16' if parity.passed else 'fp32'}"
    )


def compared(rounded: Tensor, exact: Tensor) -> network_pb2.Parity:
    """How scores [n, classes] agree with those in float32; what is not finite never passes."""
    agreement = (rounded.argmax(1) == exact.argmax(1)).double().mean().item()
    differences = (rounded - exact).abs().amax(1) / exact.abs().amax(1).clamp_min(1e-12)
    error = differences.max().item()
    return network_pb2.Parity(
        pictures=len(exact),
        top1_agreement=agreement,
        score_error=error,
        passed=agreement >= LEAST_AGREEMENT and error <= LARGEST_ERROR,
    )


def _scores(network: ServedNetwork, pictures: Tensor) -> Tensor:
    """One picture at a time, so that any network has the memory for it."""
    rows = (network.outputs(picture[None]) for picture in pictures)
    return torch.cat([row.float().cpu() for row in rows if isinstance(row, Tensor)])


def _pictures(network: ServedNetwork) -> Tensor:
    from convlens.workers.shapes.samples import SAMPLES, sample

    size = network.facts.input
    if network.facts.kind == network_pb2.NETWORK_KIND_LINEAR:
        random = torch.Generator().manual_seed(0)
        return torch.randn(len(SAMPLES), 1, 1, size.width, generator=random)
    drawn = torch.stack([torch.from_numpy(sample(seed).image) for seed in SAMPLES.values()])
    pixels = drawn.permute(0, 3, 1, 2).float() / 255
    if size.channels == 1:
        pixels = pixels.mean(1, keepdim=True)
    return interpolate(pixels, (size.height, size.width), mode="bilinear", antialias=True)
