"""The traced forward pass: names, shapes, what feeds what, and reading from a later pass."""

import threading
import time
import warnings

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names

from convlens.workers.anatomy import INPUT, Reading, read, trace
from convlens.workers.anatomy.trace import SMALL
from convlens.workers.network import Normalized

from .networks import build


def fx_names(module: nn.Module) -> list[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return get_graph_node_names(module, suppress_diff_warning=True)[1]


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


class Small(nn.Module):
    """In-place, shared, residual, functional: what makes reading hard."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.relu = nn.ReLU(inplace=True)
        self.drop = nn.Dropout()
        self.same = nn.Identity()
        self.block = nn.Sequential(nn.Conv2d(4, 4, 1), self.relu, self.relu)
        self.head = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.conv(x))
        y = self.same(self.drop(self.block(x)))
        y += x
        z = y.view(y.shape[0], 4, -1)
        z.mul_(0.5)
        z[:, 0] = 1.0
        first, _ = y.chunk(2, dim=1)
        return self.head(torch.cat([first, 1 - first], 1).mean((2, 3))).clamp_(min=0)


def small() -> Small:
    torch.manual_seed(0)
    return Small().eval()


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


def step_by_step(module: Small, x: Tensor) -> dict[str, Tensor]:
    """What each call of Small gives, written out without anything in place."""
    given = {"conv": module.conv(x)}
    given["relu"] = F.relu(given["conv"])
    given["block.0"] = module.block[0](given["relu"])
    given["relu_1"] = given["relu_2"] = given["block"] = F.relu(given["block.0"])
    given["drop"] = given["same"] = given["block"]
    given["add"] = given["block"] + given["relu"]
    given["view"] = given["add"].flatten(2)
    given["mul"] = given["view"] * 0.5
    first = given["mul"].unflatten(2, (6, 6))[:, :2].clone()
    first[:, 0] = 1
    given["sub"] = 1 - first
    given["cat"] = torch.cat([first, given["sub"]], 1)
    given["mean"] = given["cat"].mean((2, 3))
    given["head"] = module.head(given["mean"])
    given["clamp"] = given["head"].clamp(min=0)
    return given


@pytest.mark.parametrize("names", [None, ["conv"], ["add", "conv"], ["head", "head"], ["clamp"]])
def test_what_is_read_is_what_each_call_gave(names):
    module, x = small(), torch.rand(5, 3, 8, 8)
    traced, expected = trace(module, (3, 8, 8)), step_by_step(module, x)
    names = names or [name for name in traced.nodes if name != "chunk"]
    wanted = [traced.call(name) for name in names]
    with torch.inference_mode():
        outputs = read(traced, module, x, wanted)
    for name, output in zip(names, outputs, strict=True):
        assert torch.equal(output, expected[name]), name


def test_reading_stops_after_the_deepest():
    module = small()
    traced = trace(module, (3, 8, 8))
    ran: list[int] = []
    module.head.register_forward_hook(lambda *_: ran.append(1))
    read(traced, module, torch.rand(1, 3, 8, 8), [traced.call("mean")])
    assert ran == []
    seen: list[Tensor] = []
    reading = Reading(traced, {traced.call("mean"): seen.append}, stop=False)
    output = reading.run(module, torch.rand(1, 3, 8, 8))
    assert (ran, len(seen)) == ([1], 1)
    assert output is not None and output.shape == (1, 5)


def test_gradients_flow_through_what_is_read():
    conv, last = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 1)
    module = nn.Sequential(conv, nn.ReLU(inplace=True), last, nn.ReLU(inplace=True))
    x = torch.rand(2, 3, 8, 8, requires_grad=True)
    outputs = read(trace(module, (3, 8, 8)), module, x, [0, 1, 2])
    for output, plain in zip(outputs, [conv(x), conv(x).relu(), last(conv(x).relu())], strict=True):
        [gradient] = torch.autograd.grad(output.square().sum(), x, retain_graph=True)
        [expected] = torch.autograd.grad(plain.square().sum(), x)
        assert expected.abs().max() > 0
        torch.testing.assert_close(gradient, expected)


def test_threads_do_not_see_each_other():
    module = small()
    traced = trace(module, (3, 8, 8))
    pictures = [torch.full((1, 3, 8, 8), n / 16) for n in range(16)]
    names = [name for name in traced.nodes if name != "chunk"]
    wrong: list[str] = []

    def work(n: int) -> None:
        expected = step_by_step(module, pictures[n])
        for _ in range(10):
            name = names[n % len(names)]
            [output] = read(traced, module, pictures[n], [traced.call(name)])
            if not torch.equal(output, expected[name]):
                wrong.append(name)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


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
    with caplog.at_level("DEBUG"):
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

    with caplog.at_level("DEBUG"):
        traced = trace(Swish(), (3, 8, 8))
    assert "not traced on fake tensors" in caplog.text
    assert [call.function for call in traced.calls] == ["clone", "avg_pool2d"]
    assert [call.sources for call in traced.calls] == [(INPUT,), ()]


def scripted_swish(x: Tensor) -> Tensor:
    return F.hardswish(x) * torch.sigmoid(x)


@pytest.mark.parametrize(
    ("name", "size"), [("alexnet", 96), ("resnet18", 64), ("googlenet", 64), ("mobilenet_v2", 64)]
)
def test_what_is_read_is_what_create_feature_extractor_gives(name, size):
    module, x = build(name, weights=True), torch.rand(2, 3, size, size)
    traced = trace(module, (3, size, size))
    known = set(fx_names(module))
    names = [name for name in traced.nodes if name in known]
    # Nothing protects these from the ReLU that follows. (Of x += y torch.fx makes x + y.)
    writers = {n: traced.calls[traced.call(n)].overwritten for n in names}
    lost = {n for n, k in writers.items() if k is not None and traced.calls[k].function == "relu"}
    calls = [traced.call(n) for n in names]
    with torch.inference_mode():
        mine = dict(zip(names, read(traced, module, x, calls), strict=True))
        theirs = create_feature_extractor(module, names, suppress_diff_warning=True)(x)
    assert len(set(names) - lost) > 10
    for each in set(names) - lost:
        scale = theirs[each].abs().max().item()
        torch.testing.assert_close(mine[each], theirs[each], rtol=0, atol=1e-5 * scale)
    assert [n for n in lost if torch.equal(mine[n], theirs[n])] == []
    assert bool(lost) == (name != "mobilenet_v2")


def test_counting_costs_little():
    module = nn.Sequential(*[nn.Identity() if n % 2 else nn.ReLU() for n in range(400)])
    traced, x = trace(module, (1, 1, 1)), torch.zeros(1, 1, 1, 1)
    assert len(traced.calls) == 200

    def fastest(run) -> float:
        times: list[float] = []
        for _ in range(20):
            started = time.perf_counter()
            run()
            times.append(time.perf_counter() - started)
        return min(times)

    with torch.inference_mode():
        bare = fastest(lambda: module(x))
        counted = fastest(lambda: read(traced, module, x, [199]))
    assert (counted - bare) / 200 < 50e-6


def test_axes_hold_what_rows_takes_apart():
    module, x = build("swin_t", weights=True), torch.rand(3, 3, 64, 64)
    traced = trace(module, (3, 64, 64))
    names = [name for name in traced.nodes if name.startswith("features.1.1.attn.")]
    names = [n for n in names if traced.output(n).axis is not None]
    wanted = [traced.call(name) for name in names]
    assert any(traced.output(name).shape != () for name in names) and len(names) > 20
    with torch.inference_mode():
        together = read(traced, module, x, wanted)
        alone = [read(traced, module, x[n : n + 1], wanted) for n in range(3)]
    for index, name in enumerate(names):
        value = traced.output(name)
        rows = value.rows(together[index], 3)
        for n in range(3):
            torch.testing.assert_close(rows[n], value.rows(alone[n][index], 1)[0])
