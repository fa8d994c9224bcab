"""The traced forward pass: names, shapes, what feeds what, and reading from a later pass."""

import warnings

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from convlens.workers.anatomy import INPUT, read, trace
from convlens.workers.anatomy.trace import SMALL
from convlens.workers.network import Normalized

from .networks import build, fx_names, small


@pytest.mark.parametrize(
    "name",
    ["alexnet", "vgg16", "resnet18", "googlenet", "inception_v3", "densenet121", "squeezenet1_0"],
)
def test_names_are_those_of_create_feature_extractor(name):
    module = build(name)
    size = 299 if name == "inception_v3" else 224
    traced = trace(module, (3, size, size))
    leaves = [node.name for node in traced.nodes.values() if node.leaf]
    assert leaves == fx_names(module)[1:]


@pytest.mark.parametrize("name", ["mobilenet_v2", "mobilenet_v3_small", "efficientnet_b0"])
def test_what_torchvision_takes_as_one_is_a_container(name):
    # fx does not look into torchvision.ops; the names that it gives are there all the same.
    module = build(name)
    traced = trace(module, (3, 224, 224))
    assert set(fx_names(module)[1:]) <= set(traced.nodes)
    assert not traced.nodes["features.0"].leaf
    assert traced.nodes["features.0"].call == traced.call("features.0.2")


def test_names_of_views_and_chunks():
    # fx also lists sizes and items of tuples, and counts them; the calls are the same ones.
    named = set(trace(build("shufflenet_v2_x1_0"), (3, 224, 224)).nodes)
    extra = {"x", "size", "getitem", "floordiv"}
    missing = {name for name in fx_names(build("shufflenet_v2_x1_0")) if name not in named}
    assert {kind(name) for name in missing} == extra


def kind(name: str) -> str:
    stem, _, number = name.rsplit(".", 1)[-1].rpartition("_")
    return stem if number.isdigit() else name.rsplit(".", 1)[-1]


def test_a_number_that_is_part_of_a_name_stays():
    # torchvision takes the 2 of ln_2 for a repetition, and calls it ln_1.
    traced = trace(build("vit_b_16"), (3, 224, 224))
    inside = "encoder.layers.encoder_layer_0"
    assert {f"{inside}.{name}" for name in ("ln_1", "ln_2", "add", "add_1")} <= set(traced.nodes)
    assert f"{inside}.ln" in fx_names(build("vit_b_16"))


def test_a_module_that_returns_a_tuple():
    traced = trace(build("vit_b_16"), (3, 224, 224))
    node = traced.nodes["encoder.layers.encoder_layer_0.self_attention"]
    assert (node.kind, node.leaf, node.call) == ("MultiheadAttention", True, None)
    with pytest.raises(ValueError, match="self_attention returns a tuple"):
        traced.output(node.name)


def test_shapes_are_those_of_one_image():
    resnet = trace(build("resnet18"), (3, 224, 224))
    assert resnet.output("layer3").shape == (256, 14, 14)
    assert resnet.output("flatten").shape == (512,)
    assert resnet.result == resnet.call("fc")
    swin = trace(build("swin_t"), (3, 224, 224))
    # 64 windows of 7 x 7, which lie in the batch's axis.
    windows = swin.output("features.1.0.attn.linear")
    assert (windows.shape, windows.axis) == ((64, 49, 288), 0)
    # The bias of the positions is the same for every picture.
    assert swin.output("features.1.0.attn.getitem").axis is None


def test_what_feeds_what():
    calls = trace(small(), (3, 8, 8)).calls
    assert [call.function for call in calls] == [
        *("conv2d", "relu", "conv2d", "relu", "relu", "dropout", "add", "view", "mul"),
        *("setitem", "chunk", "sub", "cat", "mean", "linear", "clamp"),
    ]
    assert [call.sources for call in calls] == [
        *((INPUT,), (0,), (1,), (2,), (3,), (4,), (5, 1), (6,), (7,)),
        # What is written through a view is seen by whoever reads the tensor under it.
        *((8,), (9,), (10,), (10, 11), (12,), (13,), (14,)),
    ]
    assert [call.overwritten for call in calls] == [
        *(1, None, 3, 4, 6, 6, 8, 8, 9),
        *(None, None, None, None, None, 15, None),
    ]


def test_names_of_reused_modules_and_functions():
    traced = trace(small(), (3, 8, 8))
    assert {name: node.call for name, node in traced.nodes.items()} == {
        "conv": 0,
        "relu": 1,
        "block.0": 2,
        "relu_1": 3,
        "relu_2": 4,
        "block": 4,
        "drop": 5,
        "same": 5,
        **{"add": 6, "view": 7, "mul": 8, "chunk": None, "sub": 11, "cat": 12, "mean": 13},
        **{"head": 14, "clamp": 15},
    }
    assert traced.nodes["block"].calls == range(2, 5)
    assert traced.nodes["block"].parameters == ("block.0.weight", "block.0.bias")


def test_tracing_leaves_nothing_on_the_module():
    module = small()
    weights = {name: id(value) for name, value in module.named_parameters()}
    trace(module, (3, 8, 8))
    assert {name: id(value) for name, value in module.named_parameters()} == weights
    for each in module.modules():
        assert not each._forward_hooks and not each._forward_pre_hooks


@pytest.mark.parametrize("unused", [0, SMALL + 1])
def test_fake_tensors_and_pictures_show_the_same(unused):
    module = small()
    module.register_parameter("unused", nn.Parameter(torch.zeros(unused)))
    assert trace(module, (3, 8, 8)) == trace(small(), (3, 8, 8))


def test_names_are_relative_to_the_body_of_a_served_network():
    network = Normalized(small(), [0.5] * 3, [0.25] * 3).eval()
    traced = trace(network, (3, 8, 8), root="body")
    assert list(traced.nodes) == list(trace(small(), (3, 8, 8)).nodes)
    assert traced.nodes["conv"].call == 2
    assert traced.nodes["conv"].parameters == ("body.conv.weight", "body.conv.bias")


def test_autocast_is_seen():
    network = Normalized(build("resnet18", weights=True), [0.5] * 3, [0.25] * 3, bfloat16=True)
    network.eval().requires_grad_(False)
    traced, x = trace(network, (3, 64, 64), root="body"), torch.rand(2, 3, 64, 64)
    names = ["conv1", "layer2.0.add", "avgpool", "fc"]
    with torch.inference_mode():
        outputs = read(traced, network, x, [traced.call(name) for name in names])
        scores = network(x)
    assert [traced.output(name).dtype for name in names] == [output.dtype for output in outputs]
    assert torch.equal(outputs[-1].float(), scores)
    assert outputs[0].dtype == torch.bfloat16


class Fickle(nn.Module):
    def __init__(self, by: str) -> None:
        super().__init__()
        self.by = by

    def forward(self, x: Tensor) -> Tensor:
        if self.by == "batch":
            return x.sum(0) if x.shape[0] > 2 else x.relu()
        if self.by == "size" and x.shape[-1] > 8:
            return x.sigmoid().exp()
        return x.relu().exp()


def test_a_pass_that_is_not_the_traced_one_is_an_error():
    module = Fickle("size")
    traced = trace(module, (3, 8, 8))
    with pytest.raises(RuntimeError, match=r"call 0 .* is sigmoid; .* it was relu"):
        read(traced, module, torch.rand(1, 3, 9, 9), [0])
    short = trace(nn.Sequential(nn.ReLU(), nn.ReLU()), (3, 8, 8))
    with pytest.raises(RuntimeError, match=r"made 1 calls; .* it made 2"):
        read(short, nn.ReLU(), torch.rand(1, 3, 8, 8), [1])
    with pytest.raises(RuntimeError, match="must do the same for each image"):
        trace(Fickle("batch"), (3, 8, 8))


class Looks(nn.Module):
    """Decides by numbers, which fake tensors do not have; holds a tensor that is no buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.shift = torch.ones(3, 1, 1)
        self.unused = nn.Parameter(torch.zeros(SMALL + 1))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.shift
        return x.relu() if x.sum() > 0 else x.exp()


def test_a_network_that_looks_at_numbers_is_traced_on_black_pictures(caplog):
    with caplog.at_level("DEBUG", logger="convlens"):
        traced = trace(Looks(), (3, 8, 8))
    assert "not traced on fake tensors" in caplog.text
    assert [call.function for call in traced.calls] == ["add", "sum", "gt", "relu"]
    assert traced.result == 3
    shift = traced.calls[0].operands[1]
    assert (shift.source, shift.axis, shift.shape) == (None, None, (3, 1, 1))


def test_a_module_that_fails_says_so_itself():
    with pytest.raises(RuntimeError, match="expected input"):
        trace(nn.Conv2d(4, 4, 1), (3, 8, 8))


def test_a_scripted_module_is_opaque():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        inner = torch.jit.script(nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU()))
    traced = trace(nn.Sequential(inner, nn.MaxPool2d(2)).eval(), (3, 8, 8))
    assert list(traced.nodes) == ["1", "0"]
    assert traced.nodes["0"].obstacle == "is scripted, and what runs in it cannot be seen"
    [operand] = traced.calls[0].operands
    assert (operand.source, operand.shape) == (None, (4, 8, 8))
    [pooled] = read(traced, nn.Sequential(inner, nn.MaxPool2d(2)), torch.rand(2, 3, 8, 8), [0])
    assert pooled.shape == (2, 4, 4, 4)


def test_a_scripted_function_is_opaque(caplog):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        swish = torch.jit.script(scripted_swish)

    class Swish(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.unused = nn.Parameter(torch.zeros(SMALL + 1))

        def forward(self, x: Tensor) -> Tensor:
            return F.avg_pool2d(swish(x.clone()), 2)

    with caplog.at_level("DEBUG", logger="convlens"):
        traced = trace(Swish(), (3, 8, 8))
    assert "not traced on fake tensors" in caplog.text
    assert [call.function for call in traced.calls] == ["clone", "avg_pool2d"]
    assert [call.sources for call in traced.calls] == [(INPUT,), ()]


def scripted_swish(x: Tensor) -> Tensor:
    return F.hardswish(x) * torch.sigmoid(x)
