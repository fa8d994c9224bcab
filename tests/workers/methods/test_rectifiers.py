"""The rules of rectifiers, on networks that call them in every way there is."""

import threading
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convlens.workers.anatomy import INPUT, Unsteady
from convlens.workers.catalog import load_network
from convlens.workers.config import NetworkEntry
from convlens.workers.network import ServedNetwork
from convlens.workers.rectifiers import Rule, applied
from convlens.workers.rectifiers.inspection import Verdict, inspect
from convlens.workers.runner.asking import Kind
from convlens.workers.runner.memory import footprint
from tests.workers.methods.networks_with_rectifiers import (
    NETWORKS,
    Aliased,
    Functional,
    InPlace,
    Rectified,
    Residual,
)
from tests.workers.methods.small import Small
from tests.workers.networks import build

X = torch.rand(2, 3, 12, 12, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def guided(x: Tensor, cap: float = torch.inf) -> Tensor:
    """A rectifier as Springenberg et al. have it: the gradient that comes is rectified first."""
    y = x.clamp(0, cap) * 1
    if y.requires_grad:
        y.register_hook(lambda gradient: gradient.relu())
    return y


def deconvolved(x: Tensor, cap: float = torch.inf) -> Tensor:
    """A rectifier as Zeiler & Fergus have it: nothing but the gradient is rectified."""
    y = x + (x.clamp(0, cap) - x).detach()
    if y.requires_grad:
        y.register_hook(lambda gradient: gradient.relu())
    return y


BY_HAND = {Rule.GUIDED: guided, Rule.DECONVNET: deconvolved, Rule.DECONVNET_MAX: deconvolved}


def made(kind: Callable[[], nn.Module], seed: int = 0) -> Small:
    torch.manual_seed(seed)
    return Small(kind())


def gradient(run: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """Scores, and the gradient of one of them."""
    x = x.clone().requires_grad_()
    scores = run(x)
    [found] = torch.autograd.grad(scores[:, 2].sum(), x)
    return scores.detach(), found


def ruled(module: nn.Module, rule: Rule) -> Callable[[Tensor], Tensor]:
    def run(x: Tensor) -> Tensor:
        with applied(rule):
            return module(x)

    return run


def same(a: Tensor, b: Tensor, limit: float = 1e-12) -> None:
    assert a.shape == b.shape
    assert b.abs().max() > 0, "nothing is compared"
    assert (a - b).abs().max() <= limit * b.abs().max()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("rule", BY_HAND)
@pytest.mark.parametrize("kind", NETWORKS)
def test_a_rule_holds_however_rectifiers_are_called(kind: Any, rule: Rule, seed: int) -> None:
    module: Any = made(kind, seed).module
    expected_scores, expected = gradient(lambda x: module.plain(x, BY_HAND[rule]), X)
    _, plain = gradient(module, X)
    assert (plain - expected).abs().max() > 1e-3 * plain.abs().max(), "the rule does nothing here"
    scores, found = gradient(ruled(module, rule), X)
    same(found, expected)
    same(scores, expected_scores)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rule", Rule)
@pytest.mark.parametrize("kind", NETWORKS)
def test_the_forward_pass_is_the_plain_one_bit_for_bit(kind: Any, rule: Rule, dtype: Any) -> None:
    module = made(kind).module.to(dtype).to(memory_format=torch.channels_last)
    x = X.to(dtype, memory_format=torch.channels_last)
    expected, _ = gradient(module, x)
    found, _ = gradient(ruled(module, rule), x)
    assert torch.equal(found, expected)


@pytest.mark.parametrize("rule", BY_HAND)
@pytest.mark.parametrize("kind", [Functional, InPlace, Residual, Aliased])
def test_a_rule_holds_in_bfloat16(kind: Any, rule: Rule) -> None:
    module: Any = made(kind).module.float()

    def rounding(run: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        def rounded(x: Tensor) -> Tensor:
            with torch.autocast("cpu", torch.bfloat16):
                return run(x).float()

        return rounded

    plain, _ = gradient(rounding(module), X.float())
    scores, found = gradient(rounding(ruled(module, rule)), X.float())
    assert torch.equal(scores, plain)
    _, expected = gradient(rounding(lambda x: module.plain(x, BY_HAND[rule])), X.float())
    same(found, expected, 0.05)


def test_without_gradients_a_rule_does_nothing() -> None:
    module = made(Functional).module
    with applied(Rule.DECONVNET), torch.no_grad():
        assert torch.equal(module(X), module(X.clone()))
    with torch.inference_mode(), applied(Rule.DECONVNET_MAX):
        assert not module(X).requires_grad


def test_a_rule_is_that_of_its_thread_and_of_its_block() -> None:
    module = made(Functional).module
    _, expected = gradient(module, X)
    found: list[Tensor] = []

    def elsewhere() -> None:
        found.append(gradient(module, X)[1])

    with applied(Rule.GUIDED):
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
    elsewhere()
    with applied(None):
        elsewhere()
    assert all(torch.equal(each, expected) for each in found) and len(found) == 3


def test_rules_side_by_side_in_one_pass_go_back_each_by_its_own() -> None:
    """The rule is that of the pass that was made, not of when the gradient is asked for."""
    module: Any = made(Residual).module
    x, y = X.clone().requires_grad_(), X.clone().requires_grad_()
    one, other = ruled(module, Rule.GUIDED)(x), ruled(module, Rule.DECONVNET)(y)
    found = torch.autograd.grad((one + other)[:, 2].sum(), [x, y])
    for rule, each in zip((Rule.GUIDED, Rule.DECONVNET), found, strict=True):
        same(each, gradient(lambda x, rule=rule: module.plain(x, BY_HAND[rule]), X)[1])


def test_what_pytorch_refuses_is_refused_under_a_rule() -> None:
    def halves(x: Tensor) -> Tensor:
        left, _ = (2 * x).chunk(2, 1)
        return F.relu_(left).flatten(1)

    with pytest.raises(RuntimeError, match="modified inplace"), applied(Rule.GUIDED):
        halves(X.clone().requires_grad_())


@pytest.mark.parametrize("rule", Rule)
@pytest.mark.parametrize("kind", NETWORKS)
def test_nothing_stands_against_a_rule_that_holds(kind: Any, rule: Rule) -> None:
    verdict = inspect(made(kind), rule, None)
    assert verdict.obstacles == ()
    assert verdict.notes == {
        "Gated": ("sigmoid gates keep their gradient",),
        "Normalised": (
            "local response normalisations keep their gradient",
            "group normalisations keep their gradient",
        ),
    }.get(kind.__name__, ())


def sequence(*layers: nn.Module) -> Small:
    return Small(nn.Sequential(nn.Conv2d(3, 6, 3), *layers))


class Wrapped(nn.Module):
    """A function between a convolution and a rectifier."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.one = nn.Conv2d(3, 6, 3)
        self.last = nn.ReLU()
        self._function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self._function(self.one(x)))


@pytest.mark.parametrize("rule", Rule)
@pytest.mark.parametrize(
    "layer",
    [
        *(nn.SiLU(), nn.SiLU(inplace=True), nn.GELU(), nn.Hardswish(), nn.Mish(), nn.Softplus()),
        *(nn.ELU(), nn.ELU(inplace=True), nn.SELU(), nn.CELU(), nn.LeakyReLU(), nn.PReLU(6)),
        *(nn.LeakyReLU(inplace=True), nn.RReLU(), nn.Tanh(), nn.Sigmoid(), nn.Hardsigmoid()),
        *(nn.Softmax(1), nn.Softmax2d(), nn.LogSoftmax(1), nn.Softsign(), nn.Softshrink()),
        *(nn.Hardtanh(), nn.Hardtanh(0.1, 6), nn.Threshold(0.1, 20), nn.Threshold(-0.1, 0)),
        *(nn.GLU(1), nn.LPPool2d(2, 2), nn.FractionalMaxPool2d(2, 3)),
    ],
    ids=str,
)
def test_a_layer_without_a_rule_is_named(layer: nn.Module, rule: Rule) -> None:
    assert inspect(sequence(layer, nn.ReLU()), rule, None).obstacles == ("1",)


def product(x: Tensor) -> Tensor:
    return x.flatten(2) @ x.flatten(2).transpose(1, 2)


def old_hardswish(x: Tensor) -> Tensor:
    return x * F.relu6(x + 3) / 6


def stopped(x: Tensor) -> Tensor:
    with torch.no_grad():
        return F.relu(x)


@pytest.mark.parametrize(
    ("function", "names"),
    [
        (lambda x: x * (x > 0), ("gt", "mul")),
        (lambda x: torch.where(x > 0, x, 0.0), ("gt",)),
        (lambda x: x.masked_fill(x < 0, 0), ("lt",)),
        (lambda x: x * torch.sigmoid(x), ("mul",)),
        (lambda x: x.clone().mul_(x.sigmoid() * 1.7), ("mul_1",)),
        (lambda x: torch.sigmoid(x) * torch.sigmoid(x), ("sigmoid", "sigmoid_1", "mul")),
        (lambda x: torch.sigmoid(x) + 1, ("sigmoid",)),
        (old_hardswish, ("mul",)),
        (product, ("matmul",)),
        (lambda x: x * x, ("mul",)),
        (lambda x: x**2, ("pow",)),
        (lambda x: 1 / x, ("div",)),
        (lambda x: x / x.mean(), ("div",)),
        (lambda x: (x + x.abs()) / 2, ("abs",)),
        (lambda x: F.normalize(x), ("normalize",)),
        (lambda x: x.clamp(min=-1), ("clamp",)),
        (lambda x: x.clamp(max=1), ("clamp",)),
        (lambda x: x.clamp(min=torch.zeros((), dtype=x.dtype)), ("clamp",)),
        (lambda x: torch.maximum(x[:, :3], x[:, 3:]), ("maximum",)),
        (lambda x: torch.maximum(x, torch.full_like(x, 0.1)), ("maximum",)),
        (lambda x: F.scaled_dot_product_attention(x, x, x), ("scaled_dot_product_attention",)),
        # No gradient goes on from here, so the rectifier after it cannot be ruled either.
        (stopped, ("relu", "last")),
    ],
)
def test_a_function_without_a_rule_is_named(function: Any, names: tuple[str, ...]) -> None:
    assert inspect(Small(Wrapped(function)), Rule.GUIDED, None).obstacles == names


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x[:, :3] + x.flip(1)[:, 3:] * 0.5 - x.mean(1, keepdim=True),
        lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"),
        lambda x: F.pad(x.roll(1, 2), (1, 1, 1, 1), "reflect"),
        lambda x: F.pixel_shuffle(torch.cat([x, x[:, :2]], 1), 2).amax(1, keepdim=True),
        lambda x: F.channel_shuffle(x, 2).permute(0, 2, 3, 1).matmul(torch.ones(6, 6).double()),
        lambda x: torch.einsum("nchw,cd->ndhw", x, torch.ones(6, 6).double()),
        lambda x: x * F.interpolate(torch.sigmoid(F.max_pool2d(x, 2)), size=x.shape[2:]),
        lambda x: x.float().double() / torch.full_like(x, 3.0),
        lambda x: F.dropout(F.instance_norm(x), training=False),
    ],
)
def test_what_needs_no_rule_is_no_obstacle(function: Any) -> None:
    assert inspect(Small(Wrapped(function)), Rule.GUIDED, None).obstacles == ()


def scripted(module: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.script(module.double().eval() if isinstance(module, nn.Module) else module)


def scripted_relu(x: Tensor) -> Tensor:
    return F.relu(x)


def test_scripted_rectifiers_are_obstacles() -> None:
    block = scripted(nn.Sequential(nn.Conv2d(6, 6, 1), nn.ReLU(inplace=True)))
    body = sequence(nn.ReLU(), block, nn.MaxPool2d(2))
    for _ in range(3):
        # Later runs of scripted code are optimised.
        assert inspect(body, Rule.DECONVNET, None).obstacles == ("2",)
    assert inspect(body, Rule.DECONVNET, 1).obstacles == ()
    assert inspect(body, Rule.DECONVNET, 2).obstacles == ("2",)


def test_scripted_code_without_rectifiers_is_none() -> None:
    block = scripted(nn.Sequential(nn.Conv2d(6, 6, 1), nn.BatchNorm2d(6)))
    assert inspect(sequence(block, nn.ReLU()), Rule.GUIDED, None).obstacles == ()


def test_a_scripted_function_is_named_by_what_follows() -> None:
    function = scripted(scripted_relu)
    assert inspect(Small(Wrapped(function)), Rule.GUIDED, None).obstacles == (
        "scripted code before last",
    )


def test_scripted_code_before_a_normalisation_is_no_part_of_it() -> None:
    block = scripted(nn.Sequential(nn.Conv2d(6, 6, 1), nn.ReLU()))
    body = sequence(block, nn.LocalResponseNorm(3))
    assert inspect(body, Rule.GUIDED, None).obstacles == ("1",)


class Swish(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return 2 * (x / 2) * torch.sigmoid(x)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Any:
        return grad_outputs


class OwnRelu(Swish):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return (x * 1).clamp(min=0)


@pytest.mark.parametrize(("function", "name"), [(Swish, "mul_1"), (OwnRelu, "clamp")])
def test_gradients_that_a_network_writes_itself_are_obstacles(function: Any, name: str) -> None:
    assert inspect(Small(Wrapped(function.apply)), Rule.GUIDED, None).obstacles == (name,)


def test_only_what_lies_before_the_layer_counts() -> None:
    body = sequence(nn.ReLU(), nn.Conv2d(6, 6, 1), nn.GELU(), nn.ReLU())
    for upto, expected in [(0, ()), (1, ()), (2, ()), (3, ("3",)), (4, ("3",)), (None, ("3",))]:
        assert inspect(body, Rule.DECONVNET, upto) == Verdict(expected, ())


def test_a_network_that_goes_another_way_is_unsteady() -> None:
    class Fickle(Rectified):
        def forward(self, x: Tensor) -> Tensor:
            x = self.one(x) if x.sum() > 0 else self.one(x).relu()
            return self.scores(x)

    with pytest.raises(Unsteady):
        inspect(made(Fickle), Rule.GUIDED, None)


@pytest.fixture(scope="module")
def served() -> ServedNetwork:
    return load_network(NetworkEntry(name="shapes"), "cpu")


@pytest.mark.parametrize("rule", Rule)
def test_rules_hold_on_a_network_as_it_is_served(served: ServedNetwork, rule: Rule) -> None:
    with torch.inference_mode():
        assert inspect(served, rule, None) == Verdict((), ())
    plain, ruled = (Kind((INPUT,), (), each, False, None) for each in (None, rule))
    # Masks of rectifiers, and switches in place of what pools take.
    assert 0.3 < footprint(served, ruled) / footprint(served, plain) < 1.3


GOOD = [("alexnet", 64), ("resnet18", 32), ("squeezenet1_1", 32), ("regnet_y_400mf", 32)]
GOOD_TOO = [
    *(("vgg11_bn", 32), ("googlenet", 32), ("densenet121", 32), ("inception_v3", 75)),
    *(("mobilenet_v2", 32), ("mnasnet0_5", 32), ("shufflenet_v2_x0_5", 32)),
    ("resnext50_32x4d", 32),
]


@pytest.mark.parametrize(
    ("name", "size"), [*GOOD, *(pytest.param(*each, marks=pytest.mark.slow) for each in GOOD_TOO)]
)
def test_rules_hold_on_networks_of_torchvision(name: str, size: int) -> None:
    body = Small(build(name), (3, size, size))
    gates = ("sigmoid gates keep their gradient",) if name.startswith("regnet_y") else ()
    for rule in Rule:
        assert inspect(body, rule, None) == Verdict((), gates)


@pytest.mark.parametrize(
    ("name", "size", "among"),
    [
        ("mobilenet_v3_small", 32, ["features.0.2", "classifier.1"]),
        ("swin_t", 32, ["features.1.0.attn.softmax", "features.1.0.mlp.1"]),
        *(
            pytest.param(*each, marks=pytest.mark.slow)
            for each in (
                ("efficientnet_b0", 32, ["features.0.2", "features.1.0.block.1.activation"]),
                ("convnext_tiny", 32, ["features.1.0.block.4", "features.7.2.block.4"]),
                ("vit_b_16", 224, ["encoder.layers.encoder_layer_3.self_attention"]),
            )
        ),
    ],
)
def test_rules_do_not_hold_on_networks_of_torchvision(
    name: str, size: int, among: list[str]
) -> None:
    # Swin's tables of positions are no weights, but numbers that must be there.
    body = Small(build(name, weights=name == "swin_t"), (3, size, size))
    found = inspect(body, Rule.GUIDED, None).obstacles
    assert set(among) <= set(found) <= set(body.trace.nodes)
    kinds = {body.trace.nodes[each].kind for each in found}
    assert kinds <= {"SiLU", "GELU", "Hardswish", "MultiheadAttention", "matmul", "softmax"}
