"""Reading the outputs of chosen calls in a later pass than the traced one."""

import threading
import time

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.feature_extraction import create_feature_extractor

from convlens.workers.anatomy import Reading, read, trace

from .networks import Small, build, fx_names, small


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
