"""What layers support, design warnings, and the lectures' grammar."""

from functools import cache

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from convlens.v1.anatomy_pb2 import Anatomy, DesignWarningKind
from convlens.workers.anatomy import describe, trace
from convlens.workers.anatomy.grammar import Run, folded

from .networks import build


def anatomy_of(module: nn.Module, *image: int) -> Anatomy:
    traced = trace(module.eval(), image)
    return describe(traced, module, [False] * len(traced.calls))


@cache
def known(name: str) -> Anatomy:
    """The anatomy of one of torchvision's networks."""
    size = 299 if name == "inception_v3" else 224
    return anatomy_of(build(name).to("meta"), 3, size, size)


def supporting(anatomy: Anatomy, what: str) -> list[str]:
    return [layer.name for layer in anatomy.layers if getattr(layer, f"supports_{what}")]


@pytest.mark.parametrize(
    ("name", "last"),
    [
        ("alexnet", "avgpool"),
        ("vgg16", "avgpool"),
        ("resnet18", "layer4.1.relu_1"),
        ("densenet121", "relu"),
        ("googlenet", "inception5b.cat"),
        ("inception_v3", "Mixed_7c.cat_2"),
        ("convnext_tiny", "features.7.2.add"),
        ("efficientnet_b0", "features.8.2"),
        ("vit_b_16", "conv_proj"),
    ],
)
def test_grad_cam_looks_at_maps(name, last):
    assert supporting(known(name), "grad_cam")[-1] == last


class Gated(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        scaled = x * 2 - 1
        gated = F.relu(scaled) * scaled
        unheard = F.max_pool2d(scaled, 2)
        return gated.amax((2, 3)) + unheard.new_zeros(1)


def test_support_follows_the_data():
    anatomy = anatomy_of(Gated(), 3, 8, 8)
    # What the scores do not come from is no place for Grad-CAM.
    assert supporting(anatomy, "grad_cam") == ["mul", "sub", "relu", "mul_1"]
    # What is the same for every picture has no codes.
    assert "new_zeros" not in supporting(anatomy, "features")


def test_a_layer_that_returns_a_tuple_has_no_codes():
    anatomy = known("vit_b_16")
    [first, *_] = [layer for layer in anatomy.layers if layer.kind == "MultiheadAttention"]
    assert not first.supports_features
    assert list(first.output_shape) == [197, 768]
    assert first.parameters == 4 * 768 * 768 + 4 * 768


def test_weights_that_are_used_twice_count_once():
    shared = nn.Linear(8, 8)
    anatomy = anatomy_of(nn.Sequential(shared, nn.ReLU(), shared), 8)
    assert [(layer.name, layer.parameters) for layer in anatomy.layers] == [
        *(("0", 72), ("1", 0), ("0_1", 0)),
    ]
    assert anatomy.parameters == 72
    assert [layer.multiply_adds for layer in anatomy.layers] == [64, 0, 64]


def test_memory_counts_what_is_new():
    layers = [nn.Conv2d(3, 4, 1), nn.ReLU(inplace=True), nn.ReLU(), nn.Dropout(), nn.Flatten()]
    anatomy = anatomy_of(nn.Sequential(*layers).half(), 3, 8, 8)
    assert [layer.forward_bytes for layer in anatomy.layers] == [512, 0, 512, 0, 0]
    assert (anatomy.activations, anatomy.training_bytes) == (512, 2048)
    assert anatomy.training_memory.momentum_bytes == 2 * 16


def warnings_of(*layers: nn.Module, size: int) -> list[tuple[str, str, str]]:
    found = anatomy_of(nn.Sequential(*layers), 3, size, size).warnings
    prefix = "DESIGN_WARNING_KIND_"
    return [
        (w.layer, DesignWarningKind.Name(w.kind).removeprefix(prefix), w.sentence) for w in found
    ]


def test_a_stride_that_skips():
    [(layer, kind, sentence)] = warnings_of(nn.Conv2d(3, 4, 1, stride=2), size=9)
    assert (layer, kind) == ("0", "STRIDE_SKIPS")
    assert sentence == (
        "The stride of 2 × 2 is larger than the window of 1 × 1: it never sees 75 % of its input."
    )
    assert warnings_of(nn.Conv2d(3, 4, 2, stride=2, dilation=2), size=9) == []
    assert warnings_of(nn.Conv2d(3, 4, 2, stride=2), size=8) == []


def test_sizes_that_do_not_tile():
    [(_, kind, sentence)] = warnings_of(nn.Conv2d(3, 4, 3, stride=2), size=8)
    assert kind == "DOES_NOT_TILE"
    assert sentence == (
        "Windows of 3 with a stride of 2 do not tile 8 rows and columns with a padding of 0: "
        "the last 1 of them falls off."
    )
    [(*_, padded)] = warnings_of(nn.Conv2d(3, 4, 3, stride=2, padding=1), size=8)
    assert padded.endswith("the last 1 of the padding falls off.")
    [(*_, rows)] = warnings_of(nn.MaxPool2d((3, 1), (3, 1)), size=8)
    assert "do not tile 8 rows with a padding of 0: the last 2 of them fall off." in rows
    assert warnings_of(nn.MaxPool2d(3, 2, ceil_mode=True), size=8) == []
    assert warnings_of(nn.MaxPool2d(3, 2), size=9) == []
    assert warnings_of(nn.AdaptiveAvgPool2d(3), size=8) == []


def test_a_large_pooling():
    [(_, kind, sentence)] = warnings_of(nn.AvgPool2d(4), size=8)
    assert kind == "LARGE_POOLING"
    assert sentence.startswith("The pooling window is 4 × 4: larger than 3 × 3")
    # What pools the whole map at the end is meant to.
    assert warnings_of(nn.AdaptiveAvgPool2d(1), size=8) == []


def test_a_coarse_first_layer():
    first, second = nn.Conv2d(3, 4, 11, stride=4), nn.Conv2d(4, 4, 11, stride=4)
    found = warnings_of(first, second, size=59)
    assert [(layer, kind) for layer, kind, _ in found] == [
        *(("0", "COARSE_FIRST_LAYER"), ("1", "DOES_NOT_TILE")),
    ]
    assert "11 × 11 with a stride of 4" in found[0][2]
    # Patches that do not overlap lose nothing.
    assert warnings_of(nn.Conv2d(3, 768, 16, stride=16), size=64) == []


def test_warnings_of_alexnet_and_vgg():
    alexnet = known("alexnet").warnings
    assert [(w.layer, DesignWarningKind.Name(w.kind)[20:]) for w in alexnet] == [
        ("features.0", "COARSE_FIRST_LAYER"),
        ("features.0", "DOES_NOT_TILE"),
    ]
    assert not known("vgg16").warnings


@pytest.mark.parametrize(
    ("name", "grammar"),
    [
        (
            "alexnet",
            "INPUT -> [CONV -> RELU -> POOL]*2 -> [CONV -> RELU]*3 -> POOL -> [FC -> RELU]*2 -> FC",
        ),
        (
            "vgg16",
            "INPUT -> [[CONV -> RELU]*2 -> POOL]*2 -> [[CONV -> RELU]*3 -> POOL]*3 "
            "-> [FC -> RELU]*2 -> FC",
        ),
        (
            "vgg11_bn",
            "INPUT -> [CONV -> BN -> RELU -> POOL]*2 -> [[CONV -> BN -> RELU]*2 -> POOL]*3 "
            "-> [FC -> RELU]*2 -> FC",
        ),
        # Branches have no place in it.
        ("resnet18", ""),
        ("googlenet", ""),
        ("vit_b_16", ""),
    ],
)
def test_grammar(name, grammar):
    assert known(name).grammar == grammar


@pytest.mark.parametrize(
    ("layers", "grammar"),
    [
        ([nn.Flatten(), nn.Linear(192, 4), nn.Softmax(1)], "INPUT -> FC -> SOFTMAX"),
        ([nn.Conv2d(3, 4, 3), nn.Tanh()], ""),
        ([nn.ReLU()], ""),
    ],
)
def test_grammar_of_a_few_layers(layers, grammar):
    assert anatomy_of(nn.Sequential(*layers), 3, 8, 8).grammar == grammar


def test_folding():
    words = ["C", "POOL", *("C", "R", "C", "R", "POOL") * 2, "F"]
    # A pooling ends a group: not POOL and what follows it, twice.
    assert folded(words) == ["C", "POOL", Run((Run(("C", "R"), 2), "POOL"), 2), "F"]
    assert folded(["A"] * 5) == [Run(("A",), 5)]
    assert folded(["A", "B", "A"]) == ["A", "B", "A"]
    assert folded([]) == []


@pytest.mark.parametrize(
    ("compute", "multiply_adds"),
    [
        (lambda x: F.linear(x, torch.ones(5, 8)), 3 * 8 * 8 * 5),
        (lambda x: x @ x.mT, 3 * 8 * 8 * 8),
        (lambda x: torch.einsum("bchw, bcih -> bciw", x, x), 3 * 8 * 8 * 8),
        (lambda x: torch.einsum("...hw, hi -> ...iw", x, torch.ones(8, 2)), 3 * 8 * 8 * 2),
        (lambda x: torch.bmm(x[:, 0], x[:, 1]), 8 * 8 * 8),
        (lambda x: torch.baddbmm(x[:, 0], x[:, 1], x[:, 2]), 8 * 8 * 8),
        (lambda x: F.scaled_dot_product_attention(x, x, x), 2 * 3 * 8 * 8 * 8),
        (lambda x: F.conv_transpose2d(x, torch.ones(3, 5, 2, 2), stride=2), 3 * 64 * 5 * 4),
        (lambda x: F.conv2d(x, torch.ones(6, 1, 3, 3), groups=3), 6 * 36 * 9),
        (lambda x: x + x, 0),
    ],
)
def test_multiply_adds_of_functions(compute, multiply_adds):
    class Computes(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return compute(x)

    assert anatomy_of(Computes(), 3, 8, 8).multiply_adds == multiply_adds
