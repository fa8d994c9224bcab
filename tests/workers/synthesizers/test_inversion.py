"""Inversion against a loop straight from the paper, and what must hold of it."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convlens.contract import Failure
from convlens.contract.rules import with_defaults
from convlens.v1 import synthesis_methods_pb2 as methods
from convlens.workers.runner import Pass, Steps
from convlens.workers.selection import Selected
from convlens.workers.synthesizers import Growth, Memory, Sketch, Task
from convlens.workers.synthesizers.code import LOG_PROBABILITIES, LOGITS, SCORES, Code, code_at
from convlens.workers.synthesizers.descent import Weights
from convlens.workers.synthesizers.inversion import inversion
from tests.workers.methods.calibrated import calibrated, picture
from tests.workers.methods.small import Small, run
from tests.workers.methods.test_gradients import small_network

SIZE = 12
LAYERS = ["0", "2", "4", LOGITS, LOG_PROBABILITIES]


@pytest.fixture(scope="module")
def network() -> Small:
    return Small(small_network(0))


def task(memory: Memory | None = None, number: int = 0, canvas: int = SIZE) -> Task:
    mean, std = (torch.full((3, 1, 1), value, dtype=torch.float64) for value in (0.45, 0.25))
    return Task((3, canvas, canvas), (3, SIZE, SIZE), mean, std, 5, number, memory)


def code(network: Small, layer: str) -> Code:
    """Where the code is read."""
    trace = network.trace
    if layer in SCORES:
        return code_at(layer, None, trace, 5)
    call = trace.call(layer)
    selected = Selected(layer, call, trace.output(layer), None, 0, False, False)
    return code_at(layer, selected, trace, 5)


def parameters(layer: str, **given: Any) -> methods.Inversion:
    return with_defaults(methods.Inversion(layer=layer, **given))


def inverted(network: Small, layer: str, memory: Memory | None = None, **given: Any) -> Growth:
    wanted = code(network, layer).of(picture(network.trace.image[1], 1))
    return run(network, inversion(task(memory), wanted, parameters(layer, **given)))


def only(growth: Growth) -> Sketch:
    [sketch] = growth.sketches
    assert sketch is not None
    return sketch


def phi(network: Small, layer: str) -> Callable[[Tensor], Tensor]:
    """A code the plain way: [3, SIZE, SIZE] to any shape."""
    module = network.module
    assert isinstance(module, nn.Sequential)
    if layer == LOGITS:
        return lambda x: module(x[None])[0]
    if layer in SCORES:
        return lambda x: module(x[None])[0].log_softmax(0)
    return lambda x: module[: int(layer) + 1](x[None])[0]


def paper(
    code_of: Callable[[Tensor], Tensor], x0: Tensor, p: methods.Inversion, task: Task
) -> list[tuple[float, Tensor]]:
    """The losses and pictures of gradient descent with momentum at a fixed rate, one by one."""
    wanted = code_of(x0)
    pixels, delta = task.start(p.start), torch.zeros(task.canvas, dtype=torch.float64)
    found: list[tuple[float, Tensor]] = []
    for _ in range(p.steps):
        x = pixels.clone().requires_grad_()
        loss = ((code_of(task.see(x)) - wanted) ** 2).sum() / (wanted**2).sum()
        centred = x - task.mean
        loss = loss + p.alpha_weight * (centred.abs() ** p.alpha).sum()
        for channel in centred:
            right = F.pad(channel, (0, 1, 0, 0))[:, 1:] - channel
            right[:, -1] = 0
            below = F.pad(channel, (0, 0, 0, 1))[1:] - channel
            below[-1] = 0
            loss = loss + p.tv_weight * ((right**2 + below**2) ** (p.tv_beta / 2)).sum()
        [gradient] = torch.autograd.grad(loss, x)
        found.append((float(loss.detach()), pixels))
        delta = p.momentum * delta - p.learning_rate * gradient
        pixels = (pixels + delta).clamp(0, 1)
    return found


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("canvas", [SIZE, 20])
def test_it_descends_as_in_the_paper(network: Small, layer: str, canvas: int) -> None:
    p = parameters(
        layer, steps=6, learning_rate=0.1, alpha_weight=0.01, tv_weight=0.002, momentum=0.8
    )
    x0, place = picture(SIZE, 1), task(canvas=canvas)
    found = paper(phi(network, layer), x0, p, place)
    losses = [loss for loss, _ in found]
    assert min(losses) < 0.98 * losses[0]
    growth = run(network, inversion(place, code(network, layer).of(x0), p))
    loss, best = min(found, key=lambda each: each[0])
    sketch = only(growth)
    assert torch.allclose(sketch.pixels, best, atol=1e-9, rtol=0)
    assert sum(sketch.terms.values()) == pytest.approx(loss, rel=1e-9)
    assert sketch.objective == sketch.code_distance == sketch.terms["code"]
    apart = (place.see(best) - x0).square().mean()
    assert sketch.psnr == pytest.approx(float(-10 * apart.log10()), rel=1e-9)


@pytest.mark.parametrize("layer", LAYERS)
def test_every_code_is_come_nearer_to(network: Small, layer: str) -> None:
    given: dict[str, Any] = {"alpha_weight": 0, "tv_weight": 0}
    begin, end = (inverted(network, layer, steps=steps, **given) for steps in (1, 150))
    assert only(begin).objective > 1e-6
    assert only(end).objective < 0.05 * only(begin).objective


@pytest.mark.parametrize(
    "layer",
    [
        *("layer1", LOG_PROBABILITIES),
        *(pytest.param(each, marks=pytest.mark.slow) for each in ("layer4", "avgpool", LOGITS)),
    ],
)
def test_so_it_is_on_a_residual_network(layer: str) -> None:
    resnet = calibrated("resnet18", 32)
    wanted = code_at(LOGITS, None, resnet.trace, 10) if layer in SCORES else code(resnet, layer)
    place = task()
    place = Task((3, 32, 32), (3, 32, 32), place.mean, place.std, 5)
    p = parameters(layer, steps=40, tv_weight=0, alpha_weight=0)
    first = parameters(layer, steps=1, tv_weight=0, alpha_weight=0)
    begin, end = (
        only(run(resnet, inversion(place, wanted.of(picture(32, 1)), each))) for each in (first, p)
    )
    assert end.objective < 0.5 * begin.objective


def test_pixels_are_found_where_the_code_is_the_pixels() -> None:
    same = nn.Conv2d(3, 3, 1, bias=False)
    same.weight.data = torch.eye(3)[:, :, None, None]
    network = Small(nn.Sequential(same, nn.Flatten(), nn.Linear(3 * SIZE * SIZE, 5)))
    sketch = only(inverted(network, "0", steps=150, alpha_weight=0, tv_weight=0))
    assert sketch.psnr is not None
    assert sketch.psnr > 40


@pytest.mark.parametrize("first", [1, 8, 19])
def test_a_run_that_goes_on_is_the_run_that_was_never_left(network: Small, first: int) -> None:
    given: dict[str, Any] = {"learning_rate": 30.0}
    whole = inverted(network, "2", steps=20, **given)
    assert float(whole.state["rate"]) < 30, "the rate was not lowered"
    memory = Memory(inverted(network, "2", steps=first, **given).state)
    parts = inverted(network, "2", memory, steps=20, **given)
    assert whole.step == parts.step == 20
    assert whole.state.keys() == parts.state.keys()
    for name, value in whole.state.items():
        assert torch.equal(value, parts.state[name]), name
    one, other = only(whole), only(parts)
    assert torch.equal(one.pixels, other.pixels)
    assert (one.terms, one.psnr, one.gradient_norm) == (
        other.terms,
        other.psnr,
        other.gradient_norm,
    )


def test_what_is_told_on_the_way_is_what_would_be_returned(network: Small) -> None:
    x0 = picture(SIZE, 1)
    told: list[Any] = []

    def watched() -> Steps[Growth]:
        steps = inversion(task(), code(network, "2").of(x0), parameters("2", steps=9))
        wanted = next(steps)
        while True:
            assert isinstance(wanted, Pass)
            assert wanted.so_far
            told.append(wanted.so_far())
            answer = yield wanted
            try:
                wanted = steps.send(answer)
            except StopIteration as end:
                return end.value

    run(network, watched())
    # The picture's own code, then a first step.
    assert told[:2] == [None, None]
    for growth in told[2:]:
        shorter = inverted(network, "2", steps=growth.step)
        assert all(torch.equal(value, growth.state[name]) for name, value in shorter.state.items())


def test_what_comes_back_is_the_best_that_was_seen(network: Small) -> None:
    given: dict[str, Any] = {"learning_rate": 30.0, "alpha_weight": 0, "tv_weight": 0}
    objectives = [only(inverted(network, "2", steps=n, **given)).objective for n in (1, 5, 20, 60)]
    assert objectives == sorted(objectives, reverse=True)
    assert objectives[-1] < 0.5 * objectives[0]


def test_another_number_is_another_reconstruction(network: Small) -> None:
    wanted, p = code(network, "2").of(picture(SIZE, 1)), parameters("2", steps=30)
    one, other, again = (
        only(run(network, inversion(task(number=n), wanted, p))).pixels for n in (0, 1, 0)
    )
    assert torch.equal(one, again)
    assert (one - other).abs().mean() > 0.01


@pytest.mark.parametrize("layer", LAYERS)
def test_a_given_code_is_inverted_as_that_of_its_picture(network: Small, layer: str) -> None:
    x0 = picture(SIZE, 1)
    p = parameters(layer, steps=10)
    given = code(network, layer).as_given(phi(network, layer)(x0))
    one = run(network, inversion(task(), given, p))
    other = inverted(network, layer, steps=10)
    assert torch.allclose(only(one).pixels, only(other).pixels, atol=1e-9, rtol=0)
    assert only(one).psnr is None
    assert only(other).psnr is not None
    assert "code" not in one.state
    assert "code" in other.state


def test_a_code_of_another_shape_is_refused(network: Small) -> None:
    with pytest.raises(Failure, match=r"method\.inversion\.code") as refused:
        code(network, "2").as_given(torch.zeros(8, 6, 5))
    assert "[8, 6, 5]; must be [8, 6, 6]" in str(refused.value)


def test_a_code_of_zeros_is_refused(network: Small) -> None:
    with pytest.raises(Failure, match=r"method\.inversion\.code.*all 0"):
        code(network, "2").as_given(torch.zeros(8, 6, 6))
    dark = nn.Conv2d(3, 4, 3)
    nn.init.constant_(dark.weight, -1)
    assert dark.bias is not None
    nn.init.constant_(dark.bias, -1)
    silent = nn.Sequential(dark, nn.ReLU(), nn.Flatten(), nn.Linear(400, 5))
    with pytest.raises(Failure, match=r"method\.inversion\.image.*zeros alone"):
        inverted(Small(silent), "1")


@pytest.mark.parametrize("damaged", ["pixels", "delta", "rate", "code", "stale"])
def test_a_damaged_state_is_refused(network: Small, damaged: str) -> None:
    state = dict(inverted(network, "2", steps=3).state)
    state[damaged] = state[damaged] - 100 if damaged != "code" else state[damaged][1:]
    if damaged == "delta":
        state[damaged][0, 0, 0] = torch.nan
    with pytest.raises(Failure, match="checkpoint"):
        inverted(network, "2", Memory(state), steps=9)


def test_weights_left_out_are_those_of_the_paper_at_its_size() -> None:
    """There, x is divided by sigma; here, pixels count."""
    mean, std = torch.full((3, 1, 1), 0.45), torch.full((3, 1, 1), 0.27)
    shape = (3, 227, 227)
    sigma = float(std.mean()) * (3 * 227 * 227) ** 0.5
    for depth, strength in [(0.125, 0.5), (0.25, 0.5), (0.375, 5), (0.5, 5), (1, 5)]:
        weights = Weights(Task(shape, shape, mean, std, 0), depth, parameters("2"))
        assert weights.alpha_norm == pytest.approx(2.16e8 / sigma**6, rel=1e-6)
        assert weights.variation == pytest.approx(strength / sigma**2, rel=1e-6)


def test_depth_is_the_share_of_weights_so_far(network: Small) -> None:
    assert [code(network, layer).depth for layer in ("0", "2", "3", "5")] == [
        1 / 3,
        1 / 3,
        2 / 3,
        2 / 3,
    ]
    assert code(network, LOGITS).depth == code(network, LOG_PROBABILITIES).depth == 1
