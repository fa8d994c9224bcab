"""How far into a network deconvnet's rule holds, as GetNetwork says before anybody asks for it."""

from typing import Any

import pytest
from torch import Tensor, nn
from torch.nn import functional as F

from convlens.workers.catalog import load_network
from convlens.workers.config import NetworkEntry
from convlens.workers.rectifiers import Rule
from convlens.workers.rectifiers.inspection import inspect, reach
from tests.workers.methods.small import Small
from tests.workers.networks import build


def test_every_layer_of_a_plain_network_has_projections() -> None:
    network = load_network(NetworkEntry(name="shapes"), "cpu")
    assert all(layer.supports_deconvnet for layer in network.facts.anatomy.layers)


@pytest.mark.parametrize(
    ("name", "size", "last"),
    [
        ("resnet18", 32, ""),
        ("googlenet", 32, ""),
        # Up to the first swish, GELU, attention.
        ("efficientnet_b0", 32, "features.0.1"),
        ("convnext_tiny", 32, "features.1.0.block.3"),
        ("vit_b_16", 32, "encoder.layers.encoder_layer_0.ln_1"),
    ],
)
def test_it_is_what_is_found_at_each_layer(name: str, size: int, last: str) -> None:
    options: dict[str, Any] = {"image_size": size} if name.startswith("vit") else {}
    body = Small(build(name, **options), (3, size, size))
    found = reach(body, Rule.DECONVNET)
    ends = {call: node.name for node in body.trace.nodes.values() if (call := node.call)}
    good = [name for call, name in ends.items() if found[call] and name]
    assert good[-1] == last if last else all(found)
    for call in range(0, len(found), max(1, len(found) // 12)):
        assert found[call] == (not inspect(body, Rule.DECONVNET, call).obstacles), call


class Gated(nn.Module):
    """A gate of squeeze and excitation, and a map times another."""

    def forward(self, x: Tensor) -> Tensor:
        scaled = F.relu(x * 2 - 1)
        gate = scaled.mean((2, 3), keepdim=True).sigmoid()
        kept = F.max_pool2d(scaled * gate, 2)
        return (kept * kept.relu()).amax((2, 3))


def test_a_gate_is_one_where_something_went_through_it() -> None:
    body = Small(Gated(), (3, 8, 8))
    found = reach(body, Rule.DECONVNET)
    functions = [call.function for call in body.trace.calls]
    bad = [name for name, holds in zip(functions, found, strict=True) if not holds]
    # Between the gate and its product, and from one map times another on.
    assert bad == ["sigmoid", "mul", "amax"]
    for call, holds in enumerate(found):
        assert holds == (not inspect(body, Rule.DECONVNET, call).obstacles), call


class GatedTwice(nn.Module):
    """A gate for maps, and for what is made of them."""

    def forward(self, x: Tensor) -> Tensor:
        scaled = F.relu(x * 2 - 1)
        gate = scaled.mean((2, 3), keepdim=True).sigmoid()
        kept = F.max_pool2d(scaled * gate, 2).relu()
        return (kept * gate).amax((2, 3))


def test_a_gate_that_is_used_twice_is_one_from_its_first_use_on() -> None:
    body = Small(GatedTwice(), (3, 8, 8))
    found = reach(body, Rule.DECONVNET)
    functions = [call.function for call in body.trace.calls]
    bad = [name for name, holds in zip(functions, found, strict=True) if not holds]
    assert bad == ["sigmoid"]
    for call, holds in enumerate(found):
        assert holds == (not inspect(body, Rule.DECONVNET, call).obstacles), call
