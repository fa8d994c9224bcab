"""Passes without layers, against copies of the network with other modules in their place."""

import copy
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from convlens.contract import Failure
from convlens.contract.errors import reason_name
from convlens.internal.v1.job_pb2 import Job
from convlens.v1 import feature_pb2, image_pb2, network_pb2, tensor_pb2
from convlens.v1.image_pb2 import Image
from convlens.workers.anatomy import Reading, removal, trace
from convlens.workers.features import extract, extractor
from convlens.workers.jobs import Ticket
from convlens.workers.network import Computation, ServedNetwork
from convlens.workers.selection import Layers
from convlens.workers.shapes.network import load
from tests.workers.networks import small
from tests.workers.test_features import own, pictures, served

IDENTITY, ZEROS = True, False


class Copy(nn.Module):
    """Gives what it takes, in memory of its own."""

    def forward(self, x: Tensor) -> Tensor:
        return x.clone()


class Zeros(nn.Module):
    """Gives zeros of the shape that another module gives, which sees nothing but zeros."""

    def __init__(self, other: nn.Module) -> None:
        super().__init__()
        self.other = copy.deepcopy(other)

    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(self.other(torch.zeros_like(x)))


def reference(body: nn.Module, removed: dict[str, bool], pixels: Tensor) -> Tensor:
    """The scores of a copy of the network in which modules were replaced."""
    body = copy.deepcopy(body)
    # What is inside first, while it is there.
    for name, identity in sorted(removed.items(), reverse=True):
        body.set_submodule(name, Copy() if identity else Zeros(body.get_submodule(name)))
    with torch.inference_mode():
        return body(pixels)


traces = cache(trace)


def scores(body: nn.Module, names: Sequence[str], pixels: Tensor) -> tuple[Tensor, list[bool]]:
    """Those of a pass without layers, and which of them were replaced by what they take."""
    traced = traces(body, tuple(pixels.shape[1:]))
    removed = [removal(traced, name) for name in names]
    with torch.inference_mode():
        found = Reading(traced, {}, stop=False, removed=removed).run(body, pixels.clone())
    assert found is not None
    return found, [each.identity for each in removed]


@cache
def network(name: str) -> tuple[nn.Module, Tensor]:
    """A network as it is served, and pictures for it."""
    if name == "shapes":
        return load(), pictures(3, 128)
    size = 96 if name == "googlenet" else 64
    return served(name, size).module.body, pictures(3, size)


# Of these making and tracing takes long.
LARGE = {"googlenet", "densenet121"}
# In resnet18 relu is called twice in a block, in googlenet and densenet functions are; denselayers
# take lists. Nested ones: the inner counts for nothing.
CASES: dict[str, list[dict[str, bool]]] = {
    "shapes": [
        {"features.0": ZEROS},
        {"features.8": IDENTITY},
        {"features.9": IDENTITY},
        {"features.2": ZEROS},
        {"classifier.3": IDENTITY},
        {"features.8": IDENTITY, "features.13": IDENTITY, "classifier.3": IDENTITY},
        {"features.8": IDENTITY, "features.9": IDENTITY, "features.10": ZEROS},
        {"classifier": ZEROS, "classifier.3": IDENTITY},
    ],
    "resnet18": [
        {"layer1.0": IDENTITY},
        {"layer1": IDENTITY, "layer1.1": IDENTITY, "layer1.0.conv1": IDENTITY},
        {"layer1.0.conv1": IDENTITY},
        {"layer1.1.bn2": IDENTITY, "layer2.0.downsample.0": ZEROS},
        {"relu": IDENTITY},
        {"layer3.0": ZEROS},
        {"layer4.1": IDENTITY, "maxpool": ZEROS},
        {"avgpool": ZEROS},
    ],
    "googlenet": [
        {"inception4c": IDENTITY},
        {"inception3b.branch2.0.conv": ZEROS},
        {"inception4b.branch4.0": IDENTITY},
        {"conv2.bn": IDENTITY, "inception5b": ZEROS},
    ],
    "densenet121": [
        {"features.norm0": IDENTITY, "features.relu0": IDENTITY},
        {"features.denseblock2": ZEROS},
        {"features.denseblock1.denselayer3.conv1": IDENTITY},
        {"features.denseblock3.denselayer4.relu1": IDENTITY},
        {"features.transition1.norm": IDENTITY},
    ],
    "mobilenet_v3_small": [
        {"features.2.block.1": ZEROS},
        {"features.3": IDENTITY},
        {"features.3.block.1": IDENTITY, "features.5": IDENTITY},
        {"features.8.block.2": IDENTITY, "classifier.1": IDENTITY},
    ],
}


@pytest.mark.parametrize(
    ("name", "removed"),
    [
        pytest.param(name, removed, marks=[pytest.mark.slow] * (name in LARGE))
        for name, cases in CASES.items()
        for removed in cases
    ],
    ids=lambda each: each if isinstance(each, str) else "+".join(each),
)
def test_scores_are_those_of_a_copy_with_other_modules(name: str, removed: dict[str, bool]) -> None:
    body, pixels = network(name)
    found, identities = scores(body, list(removed), pixels)
    expected = reference(body, removed, pixels)
    assert identities == list(removed.values())
    assert torch.equal(found, expected)
    # It is not the whole network that was asked.
    with torch.inference_mode():
        assert not torch.equal(found, body(pixels))


class Mixed(nn.Module):
    """Functional calls, in place and not, whose tensors others read or return."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.inner = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 1)
        self.block = Ending()
        self.gone: frozenset[str] = frozenset()

    def forward(self, x: Tensor) -> Tensor:
        """With `gone`, the same written out without these layers, each in memory of its own."""
        x = self.conv(x)
        kept = x
        x = F.relu(x) if "relu" not in self.gone else x.clone()
        x.mul_(2).sub_(0.3)
        # Its result is thrown away: whoever reads x sees what it did.
        if "leaky_relu" not in self.gone:
            F.leaky_relu(x, 0.3, inplace=True)
        y = self.inner(x) if "inner" not in self.gone else x.clone()
        y.add_(1)
        z = self.block(y) if "block" not in self.gone else y.clone()
        return torch.cat([kept, x, y, z], 1).mean((2, 3))


class Ending(nn.Module):
    """Overwrites what it takes, and returns a tensor that a call changed whose result is lost."""

    def forward(self, x: Tensor) -> Tensor:
        x.sub_(0.5)
        x = x * 3
        torch.relu_(x)
        return x


@pytest.mark.parametrize(
    "names",
    [["relu"], ["leaky_relu"], ["inner"], ["block"], ["relu", "block"], ["relu", "leaky_relu"]],
    ids="+".join,
)
def test_nobody_sees_what_a_removed_layer_writes_or_what_is_written_in_its_place(
    names: list[str],
) -> None:
    torch.manual_seed(0)
    body, pixels = Mixed().eval(), torch.randn(2, 3, 8, 8)
    found, identities = scores(body, names, pixels)
    assert all(identities)
    with torch.inference_mode():
        whole = body(pixels)
        body.gone = frozenset(names)
        assert torch.equal(found, body(pixels))
    assert not torch.equal(found, whole)


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] * (name in LARGE)) for name in CASES],
)
def test_removing_nothing_changes_no_bit(name: str) -> None:
    body, pixels = network(name)
    with torch.inference_mode():
        assert torch.equal(scores(body, [], pixels)[0], body(pixels))


def test_a_row_does_not_depend_on_the_others() -> None:
    body, pixels = network("shapes")
    names = ["features.8", "features.2", "classifier.3"]
    together, _ = scores(body, names, pixels)
    mixed, _ = scores(body, names, torch.stack([torch.rand(3, 128, 128), pixels[1]]))
    assert torch.allclose(together[1], mixed[1], atol=1e-6)


def test_layers_are_removed_in_bfloat16_too() -> None:
    body, pixels = network("shapes")
    facts = network_pb2.Network(
        name="own",
        version="1",
        input=network_pb2.InputGeometry(
            height=128, width=128, channels=3, mean=[0, 0, 0], std=[1, 1, 1]
        ),
    )
    half = ServedNetwork(
        copy.deepcopy(body), facts, torch.device("cpu"), Computation(bfloat16=True)
    )
    half.dissect()
    removed = {"features.8": IDENTITY, "classifier.3": IDENTITY}
    known = Layers(half)
    selected = [known.select(feature_pb2.LayerSelection(layer="logits"))]
    rows = extract(half, selected, pixels, known.remove(list(removed)))
    found = torch.stack([row[0].values for row in rows])
    expected = reference(body, removed, pixels)
    assert (found - expected).abs().max() < 0.02 * expected.abs().max()


def test_what_is_read_of_a_removed_layer_is_what_goes_on() -> None:
    chain = small_chain()
    network_, pixels = own(chain), pictures(2, 32)
    known = Layers(network_)
    names = ["0", "1", "2", "3"]
    selected = [known.select(feature_pb2.LayerSelection(layer=name)) for name in names]
    rows = list(extract(network_, selected, pixels, known.remove(["1", "2"])))
    first, second, third, last = (
        torch.stack([row[index].values for row in rows]) for index in range(4)
    )
    with torch.inference_mode():
        assert torch.allclose(first, chain[0](pixels), atol=1e-6)
        assert torch.equal(second, first)
        assert third.shape == (2, 4, 16, 16) and not third.any()
        assert torch.allclose(last, chain[3](third), atol=1e-6)


def small_chain() -> nn.Sequential:
    torch.manual_seed(0)
    # The second one writes over what the first one gave.
    layers = [nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Conv2d(4, 2, 1), nn.Flatten(), nn.Linear(512, 3))


class Odd(nn.Module):
    """What nothing can stand in for."""

    def __init__(self) -> None:
        super().__init__()
        self.pair, self.two, self.idle, self.view = Pair(), Two(), nn.Identity(), View()

    def forward(self, x: Tensor) -> Tensor:
        x, y = self.pair(x)
        x = self.view(self.idle(self.two(x, y)))
        return (x + torch.ones(1).exp()).mean((2, 3))


class Pair(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x * 2, x * 3


class Two(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x + y


class View(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        x = x * 2
        x[:, 1:].relu_()
        return x


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        ("pair", "it returns a tuple"),
        ("two", "it takes several tensors"),
        ("two.add", "it takes several tensors"),
        ("idle", "it computes nothing"),
        ("view", "it returns a tensor of which another view was written to"),
        ("exp", "it takes no tensor of the picture"),
    ],
)
def test_what_cannot_be_removed_is_refused_with_the_reason(layer: str, words: str) -> None:
    known = Layers(own(Odd()))
    with pytest.raises(Failure) as caught:
        known.remove([layer])
    assert reason_name(caught.value.reason) == "LAYER_NOT_APPLICABLE"
    assert f"{words}, and only what takes one tensor and gives one can be removed" in str(
        caught.value
    )


def test_unknown_layers_and_those_named_twice_are_refused() -> None:
    known = Layers(own(small_chain()))
    with pytest.raises(Failure, match="has no layer '6'") as caught:
        known.remove(["6"])
    assert reason_name(caught.value.reason) == "LAYER_NOT_FOUND"
    with pytest.raises(Failure) as caught:
        known.remove(["5", "1", "logits"])
    assert reason_name(caught.value.reason) == "INVALID_REQUEST"
    words = r"removed_layers[2] is '5', as removed_layers[0] is; name each layer once"
    assert words in str(caught.value)


def test_all_nodes_of_a_difficult_network_are_removed_or_refused() -> None:
    body, pixels = small(), torch.rand(2, 3, 8, 8)
    refused: list[str] = []
    for name in trace(body, (3, 8, 8)).nodes:
        try:
            found, _ = scores(body, [name], pixels)
        except ValueError:
            refused.append(name)
        else:
            assert found.shape == (2, 5)
    assert refused == ["same", "add", "chunk", "cat"]


def ticket(asked: feature_pb2.ExtractFeaturesRequest, heard: Callable[[Any], None]) -> Ticket:
    now = time.monotonic()
    return Ticket(
        Job(request_id="r", request=asked.SerializeToString()), now, now + 60, lambda: False, heard
    )


def test_jobs_without_other_layers_do_not_share_a_pass_and_receipts_tell(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.manual_seed(0)
    made: ServedNetwork = own(small_chain())
    pixels = torch.rand(3, 32, 32)
    image = Image(
        geometry=image_pb2.GEOMETRY_AS_IS,
        tensor=tensor_pb2.Tensor(
            dtype=tensor_pb2.DATA_TYPE_FLOAT32,
            shape=[32, 32, 3],
            data=pixels.permute(1, 2, 0).contiguous().numpy().tobytes(),
        ),
    )
    sets = [[], ["1"], ["1", "logits"], ["logits", "1"], []]
    sizes: list[int] = []
    run = Reading.run

    def counted(self: Reading, module: nn.Module, pixels: Tensor) -> Tensor | None:
        sizes.append(len(pixels))
        return run(self, module, pixels)

    monkeypatch.setattr(Reading, "run", counted)
    replies: dict[int, Any] = {}
    layers = [feature_pb2.LayerSelection(layer="logits")]
    with ThreadPoolExecutor(2) as executor:
        extractor(made, executor).run(
            ticket(
                feature_pb2.ExtractFeaturesRequest(
                    images=[image], layers=layers, removed_layers=names
                ),
                lambda reply, number=number: replies.update({number: reply}),
            )
            for number, names in enumerate(sets)
        )
    # The order in which layers are named changes nothing.
    assert sorted(sizes) == [1, 2, 2]
    for number, names in enumerate(sets):
        answer = feature_pb2.ExtractFeaturesResponse.FromString(replies[number].response)
        hows = {"1": feature_pb2.REMOVAL_IDENTITY, "logits": feature_pb2.REMOVAL_ZEROS}
        resolved = {"1": "1", "logits": "5"}
        assert [(each.layer, each.removal) for each in answer.removed_layers] == [
            (resolved[name], hows[name]) for name in names
        ]
        parameters = feature_pb2.ExtractFeaturesRequest()
        assert answer.receipt.parameters.Unpack(parameters)
        assert list(parameters.removed_layers) == names
        [result] = answer.results
        values = torch.frombuffer(
            bytearray(result.features.codes[0].values.data), dtype=torch.float32
        )
        swapped = {resolved[name]: hows[name] == feature_pb2.REMOVAL_IDENTITY for name in names}
        expected = reference(made.module.body, swapped, pixels[None])[0]
        assert torch.allclose(values, expected, atol=1e-6)
    digests = {
        feature_pb2.ExtractFeaturesResponse.FromString(replies[n].response).receipt.request_digest
        for n in range(4)
    }
    assert len(digests) == 4
