"""Occlusion, against a slow sweep and captum."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from convlens.v1 import explanation_methods_pb2 as pb
from convlens.v1 import image_pb2
from convlens.workers.anatomy.fields import maps
from convlens.workers.incremental import FullPasses
from convlens.workers.methods.fills import filled
from convlens.workers.methods.occlusion import OcclusionResult, occlusion
from convlens.workers.methods.occlusion.grid import Grid
from convlens.workers.methods.occlusion.sweep import Occluded
from convlens.workers.runner import Answer, Steps
from tests.workers.methods.calibrated import calibrated, picture
from tests.workers.methods.small import Small, run

TARGET = 2
WHOLE = FullPasses("whole passes are what is tested")
HEIGHT, WIDTH = 12, 10
# Sides and strides that tile the picture, that do not, that overlap, and that hardly fit.
GEOMETRIES = [(2, 2), (4, 4), (4, 3), (5, 2), (3, 1), (7, 5), (9, 2), (10, 10), (10, 7)]


@pytest.fixture
def x() -> Tensor:
    return picture(HEIGHT, 5)[:, :, :WIDTH].contiguous()


@pytest.fixture
def fill(x: Tensor) -> Tensor:
    return filled(x, image_pb2.FILL_NOISE, mean=[], sigma=1, seed=3)


@pytest.fixture
def network() -> Small:
    """The overwritten output of its first layer is what is watched."""
    torch.manual_seed(1)
    layers = [
        *(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2)),
        *(nn.Conv2d(6, 8, 3), nn.Tanh(), nn.Flatten(), nn.Linear(8 * 4 * 3, 5)),
    ]
    for layer in layers:
        for parameter in layer.parameters():
            nn.init.normal_(parameter)
    return Small(nn.Sequential(*layers), (3, HEIGHT, WIDTH))


def swept(
    network: Small,
    x: Tensor,
    fill: Tensor,
    window: int,
    stride: int,
    layer: str | None = None,
    **given: Any,
) -> OcclusionResult:
    return run(network, steps_of(network, x, fill, window, stride, layer, **given))


def steps_of(
    network: Small,
    x: Tensor,
    fill: Tensor,
    window: int,
    stride: int,
    layer: str | None = None,
    **given: Any,
) -> Steps[OcclusionResult]:
    p = pb.Occlusion(window=window, stride=stride, projective_threshold=1, **given)
    call = None if layer is None else network.trace.call(layer)
    place = None if call is None else maps(network.trace)[call]
    axes = place.axes if layer and place and len(network.trace.output(layer).shape) > 1 else None
    return occlusion(x, TARGET, p, fill, call, axes, WHOLE)


def same(a: Tensor, b: Tensor, limit: float = 1e-9) -> None:
    assert a.shape == b.shape
    assert b.abs().max() > 0, "nothing is compared"
    assert (a - b).abs().max() <= limit * b.abs().max()


def starts(size: int, window: int, stride: int) -> Iterator[int]:
    """Where windows begin along an axis: until one reaches the end."""
    start = 0
    while start + window < size:
        yield start
        start += stride
    yield start


@pytest.mark.parametrize(("window", "stride"), GEOMETRIES)
def test_occlusion(network: Small, x: Tensor, fill: Tensor, window: int, stride: int) -> None:
    """Figure 7 of the paper, one window after the other."""
    watch = network.module[:1]  # pyright: ignore[reportIndexIssue]
    clean, totals = network.module(x[None])[0, TARGET], watch(x[None])[0].sum((1, 2))
    strongest = int(totals.argmax())
    tops, lefts = (list(starts(size, window, stride)) for size in (HEIGHT, WIDTH))
    fall, count = torch.zeros(2, HEIGHT, WIDTH, dtype=x.dtype)
    probability, activation = torch.zeros(2, len(tops), len(lefts), dtype=x.dtype)
    predicted = torch.zeros(len(tops), len(lefts), dtype=torch.int64)
    for (row, top), (column, left) in product(enumerate(tops), enumerate(lefts)):
        covered = x.clone()
        for i in range(top, min(top + window, HEIGHT)):
            for j in range(left, min(left + window, WIDTH)):
                covered[:, i, j] = fill[:, i, j]
        scores = network.module(covered[None])[0]
        for i in range(top, min(top + window, HEIGHT)):
            for j in range(left, min(left + window, WIDTH)):
                fall[i, j] += clean - scores[TARGET]
                count[i, j] += 1
        probability[row, column] = scores.softmax(0)[TARGET]
        predicted[row, column] = scores.argmax()
        activation[row, column] = watch(covered[None])[0, strongest].sum()

    found = swept(network, x, fill, window, stride, "0")
    assert count.min() > 0, "every pixel is covered"
    same(found.map, fall / count)
    assert found.probability.std() > 0 or found.windows == 1
    same(found.probability, probability)
    assert torch.equal(found.predicted_class, predicted)
    assert found.activation is not None
    same(found.activation, activation)
    assert found.watched_map_index == strongest
    assert found.clean_activation == pytest.approx(float(totals[strongest]))
    assert (found.window, found.stride) == (window, stride)
    assert found.center_rows == tuple((top + min(top + window, HEIGHT)) / 2 for top in tops)
    assert found.center_columns == tuple((left + min(left + window, WIDTH)) / 2 for left in lefts)
    assert (found.windows, found.windows_saved) == (len(tops) * len(lefts), 0)
    assert found.refinement is None
    assert found.full_passes_reason == WHOLE.reason


def test_some_window_changes_the_predicted_class(network: Small, x: Tensor, fill: Tensor) -> None:
    found = swept(network, x, fill, 5, 2)
    assert len(found.predicted_class.unique()) > 1


@pytest.mark.parametrize("window", [2, 5, 10])
def test_disjoint_windows_cover_the_picture(x: Tensor, fill: Tensor, window: int) -> None:
    """For a linear network, covering everything is the sum of what the windows do."""
    torch.manual_seed(0)
    network = Small(
        nn.Sequential(nn.Flatten(), nn.Linear(3 * HEIGHT * WIDTH, 5)), (3, HEIGHT, WIDTH)
    )
    found = swept(network, x, fill, window, window)
    scores = network.module(torch.stack([x, fill]))[:, TARGET]
    tops, lefts = (list(range(0, size, window)) for size in (HEIGHT, WIDTH))
    total = sum(float(found.map[top, left]) for top, left in product(tops, lefts))
    assert total == pytest.approx(float(scores[0] - scores[1]))


class Corner(nn.Module):
    """Sees one pixel."""

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, 4, 7].repeat(1, 2)


def test_only_windows_over_what_is_seen_matter(x: Tensor, fill: Tensor) -> None:
    found = swept(Small(Corner(), (3, HEIGHT, WIDTH)), x, fill, 4, 2)
    seen = (found.map != 0).nonzero()
    # Windows that cover pixel (4, 7) begin at rows 2 and 4, and at columns 4 and 6.
    assert seen.amin(0).tolist() == [2, 4] and seen.amax(0).tolist() == [7, 9]
    assert found.map.abs().argmax() == 4 * WIDTH + 6, "where all of them overlap"


class Constant(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)[:, :5] * 0 + 1


@pytest.mark.parametrize("adaptive", [False, True])
def test_a_constant_network_gives_a_zero_map(x: Tensor, fill: Tensor, adaptive: bool) -> None:
    network = Small(Constant(), (3, HEIGHT, WIDTH))
    found = swept(network, x, fill, 4, 2, adaptive=adaptive)
    assert not found.map.any()
    # Nowhere is there anything to look at more finely: of rows 0, 2, 4, 6 and 8, 2 and 6 are left
    # out, and of columns 0, 2, 4 and 6 only 2.
    assert found.windows == (3 * 3 if adaptive else 5 * 4)


def test_covering_a_picture_by_itself_changes_nothing(network: Small, x: Tensor) -> None:
    found = swept(network, x, x, 4, 2, "3")
    assert found.map.abs().max() < 1e-12
    assert found.activation is not None and found.clean_activation is not None
    assert torch.allclose(found.activation, torch.tensor(found.clean_activation).double())


class Vectors(nn.Module):
    """Watched are a vector, and maps whose channels are the last axis."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3)
        self.last = nn.Linear(6, 8)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.last(self.conv(x).permute(0, 2, 3, 1)).tanh().mean((1, 2)))


def test_vectors_and_maps_along_other_axes_are_watched(x: Tensor, fill: Tensor) -> None:
    torch.manual_seed(0)
    network = Small(Vectors(), (3, HEIGHT, WIDTH))
    scores = network.module(x[None])[0]
    found = swept(network, x, fill, 4, 2, "head")
    assert found.watched_map_index == int(scores.argmax())
    assert found.clean_activation == pytest.approx(float(scores.max()))
    assert found.activation is not None and found.activation.std() > 0
    # The mean of the eight maps is what the head takes.
    totals = network.module.last(network.module.conv(x[None]).permute(0, 2, 3, 1)).sum((0, 1, 2))  # pyright: ignore
    found = swept(network, x, fill, 4, 2, "last")
    assert found.watched_map_index == int(totals.argmax())
    assert found.clean_activation == pytest.approx(float(totals.max()))


def test_without_a_layer_nothing_is_watched(network: Small, x: Tensor, fill: Tensor) -> None:
    found = swept(network, x, fill, 4, 2)
    assert (found.activation, found.watched_map_index, found.clean_activation) == (None, None, None)
    same(found.map, swept(network, x, fill, 4, 2, "0").map)


def test_pixels_are_covered_when_they_are_asked_for(x: Tensor, fill: Tensor) -> None:
    before = x.clone()
    points = Occluded(x, fill, Grid(HEIGHT, WIDTH, 4, 3), tuple(range(12)))
    assert len(points) == 12
    assert torch.equal(points[3:7], torch.stack([points[n : n + 1][0] for n in range(3, 7)]))
    assert torch.equal(x, before)
    # The last window of the first row: three columns are left for it.
    assert torch.equal(points[2:3][0, :, :4, 6:], fill[:, :4, 6:])
    assert torch.equal(points[2:3][0, :, :, :6], x[:, :, :6])


@pytest.mark.parametrize(("window", "stride"), GEOMETRIES)
def test_coarse_windows_cover_the_picture(window: int, stride: int) -> None:
    grid = Grid(HEIGHT, WIDTH, window, stride)
    coarse, covered = grid.coarse(), torch.zeros(HEIGHT, WIDTH)
    for number in coarse.flatten().nonzero().flatten().tolist():
        covered[grid.place(number)] = 1
    assert covered.all()
    assert len(grid) == coarse.numel()
    assert 2 * stride > window or coarse.sum() < len(grid) or len(grid) == 1


def versions(steps: Steps[OcclusionResult], seen: list[Any]) -> Steps[OcclusionResult]:
    """The method, with what it would return after each part of an answer."""
    answer: Any = None
    while True:
        try:
            wanted: Any = steps.send(answer)
        except StopIteration as end:
            return end.value
        if wanted.each:

            def each(part: Answer, wanted: Any = wanted) -> None:
                wanted.each(part)
                seen.append(wanted.so_far())

            answer = yield replace(wanted, each=each)
        else:
            answer = yield wanted


def test_what_there_is_so_far_covers_the_picture(network: Small, x: Tensor, fill: Tensor) -> None:
    seen: list[OcclusionResult | None] = []
    final = run(network, versions(steps_of(network, x, fill, 4, 2, "0"), seen), rows=1)
    grid = Grid(HEIGHT, WIDTH, 4, 2)
    coarse = int(grid.coarse().sum())
    assert seen[: coarse - 1] == [None] * (coarse - 1)
    partial = [each for each in seen if each is not None]
    assert [each.windows for each in partial] == list(range(coarse, len(grid) + 1))
    for each in partial:
        assert bool(each.map.isfinite().all()) and each.map.any()
        missing = len(grid) - each.windows
        assert int(each.probability.isnan().sum()) == missing
        assert int((each.predicted_class == -1).sum()) == missing
        assert each.activation is not None and int(each.activation.isnan().sum()) == missing
        assert each.windows_saved == 0
    # Four windows tile a pixel in the end, one of them covers it at first.
    first, last = partial[0], partial[-1]
    assert first.refinement is None
    change = float((partial[-2].map - first.map).abs().max())
    assert partial[-2].refinement == pytest.approx(change)
    assert torch.equal(last.map, final.map) and last.refinement is None
    errors = [float((each.map - final.map).abs().mean()) for each in partial]
    assert errors[0] > errors[len(errors) // 2] > errors[-1] == 0


def test_an_adaptive_sweep_is_exact_where_it_matters(
    network: Small, x: Tensor, fill: Tensor
) -> None:
    exact = swept(network, x, fill, 3, 1)
    network.points = 0
    found = swept(network, x, fill, 3, 1, adaptive=True)
    assert found.windows + found.windows_saved == exact.windows
    assert network.points == found.windows + 1 < 0.7 * exact.windows
    missing = found.probability.isnan()
    assert int(missing.sum()) == found.windows_saved
    assert torch.equal(found.predicted_class == -1, missing)
    same(found.probability[~missing], exact.probability[~missing], 1e-12)
    # By hand: the map of the coarse windows, and every window over its strongest tenth.
    grid = Grid(HEIGHT, WIDTH, 3, 1)
    seen = grid.coarse()
    fall = network.module(x[None])[0, TARGET] - scores_of(network, x, fill, grid)
    coarse = grid.averaged(fall, seen)
    strong = coarse.abs() >= coarse.abs().flatten().sort().values[-HEIGHT * WIDTH // 10]
    assert 0 < strong.sum() < 0.2 * strong.numel()
    same(found.map[strong], exact.map[strong], 1e-12)
    assert (found.map - exact.map).abs().max() > 0.01 * exact.map.abs().max()
    for number in range(len(grid)):
        down, across = grid.place(number)
        seen.view(-1)[number] |= strong[down, across].any()
    assert torch.equal(seen, ~missing)
    assert found.refinement == pytest.approx(float((found.map - coarse).abs().max()))


def scores_of(network: Small, x: Tensor, fill: Tensor, grid: Grid) -> Tensor:
    covered = Occluded(x, fill, grid, tuple(range(len(grid))))[:]
    return network.module(covered)[:, TARGET].view(grid.shape)


def test_an_adaptive_sweep_of_windows_that_hardly_overlap_is_exact(
    network: Small, x: Tensor, fill: Tensor
) -> None:
    found = swept(network, x, fill, 4, 3, adaptive=True)
    exact = swept(network, x, fill, 4, 3)
    assert found.windows_saved == 0 and found.refinement is None
    assert torch.equal(found.map, exact.map)


@pytest.mark.parametrize(
    ("name", "window", "stride"),
    [
        *(("alexnet", 16, 16), ("alexnet", 21, 13), ("alexnet", 27, 9)),
        *(("vgg11", 30, 14), ("resnet18", 21, 13)),
    ],
)
def test_captum_finds_the_same_map(name: str, window: int, stride: int) -> None:
    from captum.attr import Occlusion

    network, x = calibrated(name, 64), picture(64, 8)
    fill = filled(x, image_pb2.FILL_GREY, mean=[], sigma=1, seed=0)
    expected = Occlusion(network.module).attribute(
        x[None],
        sliding_window_shapes=(3, window, window),
        strides=(3, stride, stride),
        baselines=0.5,
        target=TARGET,
    )
    found = swept(network, x, fill, window, stride)
    clean = float(network.module(x[None])[0, TARGET])
    assert found.map.abs().max() > 0.05 * abs(clean), "a window matters"
    for channel in expected[0]:
        same(found.map, channel, 1e-6)
