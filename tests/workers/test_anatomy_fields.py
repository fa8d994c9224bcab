"""Receptive fields, against those that the gradient of one unit shows."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from convlens.workers.anatomy import read, trace
from convlens.workers.anatomy.fields import Extent, Map, maps

from .networks import build


def heard_everywhere(module: nn.Module) -> nn.Module:
    """The same windows, and no gradient that can vanish.

    Weights are positive, batch norms do nothing, so that rectifiers let everything through; and
    where a max-pool would hand the gradient to one unit of its window, a mean gives to all.
    """
    for inner in list(module.modules()):
        for name, child in inner.named_children():
            if isinstance(child, nn.MaxPool2d):
                window = child.kernel_size, child.stride, child.padding, child.ceil_mode
                setattr(inner, name, nn.AvgPool2d(*window))
        if isinstance(inner, nn.Conv2d):
            nn.init.uniform_(inner.weight, 0.5, 1.5)
            inner.weight.data /= inner.weight[0].numel()
            if inner.bias is not None:
                nn.init.zeros_(inner.bias)
        if isinstance(inner, nn.BatchNorm2d):
            inner.reset_parameters()
    return module.requires_grad_(False).eval()


def seen(unit: Tensor, x: Tensor) -> tuple[tuple[int, int], tuple[int, int]]:
    """Rows and columns (first, count) from which a unit, summed over all maps, hears anything."""
    [gradient] = torch.autograd.grad(unit.sum(), x, retain_graph=True)
    heard = gradient[0].abs().sum(0)
    found: list[tuple[int, int]] = []
    for axis in (1, 0):
        lines = heard.sum(axis).nonzero().flatten()
        first, last = int(lines[0]), int(lines[-1])
        # A dilated window leaves lines out in between.
        found.append((first, last - first + 1))
    return found[0], found[1]


def check(module: nn.Module, image: tuple[int, int, int], names: list[str]) -> list[Map]:
    """Compares the fields of central units of these layers; gives what was computed."""
    traced = trace(module, image)
    known = maps(traced)
    calls = [traced.call(name) for name in names]
    x = torch.rand(1, *image, requires_grad=True)
    found: list[Map] = []
    for name, call, output in zip(names, calls, read(traced, module, x, calls), strict=True):
        place = known[call]
        assert place is not None and place.fields is not None, name
        unit = [size // 2 for size in output.shape[-2:]]
        expected = [
            (extent.first + extent.jump * index, extent.size)
            for extent, index in zip(place.fields, unit, strict=True)
        ]
        # No border cuts it, else the comparison would show less than it says.
        assert all(
            first > 0 and first + count < side
            for (first, count), side in zip(expected, image[1:], strict=True)
        ), name
        assert list(seen(output[0, :, unit[0], unit[1]], x)) == expected, name
        found.append(place)
    return found


@pytest.mark.parametrize(
    ("name", "size", "layers", "sizes"),
    [
        ("alexnet", 288, ["features.0", "features.2", "features.12"], [11, 19, 195]),
        ("vgg16", 224, ["features.4", "features.16", "features.30"], [6, 44, 212]),
        ("resnet18", 480, ["maxpool", "layer1.0.add", "layer4"], [11, 27, 435]),
        ("resnet18", 480, ["layer3.0.downsample.0", "layer3.0.bn1"], [99, 115]),
        ("googlenet", 448, ["inception3a.cat", "inception4e", "inception5b"], [43, 235, 379]),
    ],
)
def test_fields_are_where_the_gradient_ends(name, size, layers, sizes):
    torch.manual_seed(0)
    found = check(heard_everywhere(build(name)), (3, size, size), layers)
    assert [place.fields[0].size for place in found if place.fields] == sizes


class Uneven(nn.Module):
    """Windows that differ along the axes, dilation, paddings, branches, slices, moved axes."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Conv2d(3, 4, (1, 7), padding=(0, 3))
        self.sparse = nn.Conv2d(3, 4, 3, dilation=(3, 1), padding="same")
        self.even = nn.Conv2d(8, 4, (4, 2), stride=(2, 1), padding="valid")
        self.mix = nn.Linear(4, 6)

    def forward(self, x: Tensor) -> Tensor:
        both = torch.cat([F.relu(self.wide(x)), self.sparse(x)], dim=1)
        down = self.even(F.pad(both, (2, 0, 1, 3)))
        mixed = self.mix(down.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        left, right = mixed.chunk(2, dim=1)
        one = torch.unsqueeze(left[:, 0], 1)
        return (one + right * mixed.mean(1, keepdim=True)).flatten(1, 1)


def test_fields_of_uneven_windows():
    torch.manual_seed(0)
    module = Uneven()
    for inner in (module.wide, module.sparse, module.even):
        nn.init.uniform_(inner.weight, 0.5, 1.5)
    nn.init.uniform_(module.mix.weight, 0.5, 1.5)
    names = ["wide", "sparse", "cat", "even", "permute_1", "unsqueeze", "add"]
    wide, sparse, *_, last = check(module.eval().requires_grad_(False), (3, 40, 48), names)
    assert wide.fields == (Extent(0, 1, 1), Extent(-3, 7, 1))
    assert sparse.fields == (Extent(-3, 7, 1), Extent(-1, 3, 1))
    assert last.fields == (Extent(-4, 10, 2), Extent(-5, 8, 1))
    assert [extent.offset for extent in last.fields or ()] == [0.5, -1.5]


def test_convnext_moves_its_axes():
    names = ["features.0", "features.1.0", "features.1.2", "features.2", "features.3.0"]
    traced = trace(build("convnext_tiny"), (3, 224, 224))
    places = [maps(traced)[traced.call(name)] for name in names]
    sizes = [place.fields[0].size for place in places if place and place.fields]
    # Patches of 4 × 4, three windows of 7 at a jump of 4, one patch more, a window at a jump of 8.
    assert sizes == [4, 4 + 6 * 4, 4 + 3 * 6 * 4, 76 + 4, 80 + 6 * 8]


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        # A squeeze looks at the whole map, and everything after it sees everything.
        ("efficientnet_b0", "features.1.0.block.1.mul"),
        ("resnet18", "avgpool"),
        ("resnet18", "fc"),
        ("vit_b_16", "encoder.layers.encoder_layer_0.add"),
        ("swin_t", "features.1.0.attn.linear"),
    ],
)
def test_what_sees_everything_has_no_field(name, layer):
    traced = trace(build(name), (3, 224, 224))
    place = maps(traced)[traced.call(layer)]
    assert place is None or place.fields is None
