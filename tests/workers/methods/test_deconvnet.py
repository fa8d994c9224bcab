"""Deconvnet against Zeiler & Fergus, and against captum where that is right."""

from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from convlens.contract import ErrorReason, Failure
from convlens.v1 import explanation_methods_pb2 as pb
from convlens.v1 import geometry_pb2
from convlens.workers.anatomy.fields import maps
from convlens.workers.methods.deconvnet import DeconvnetResult, check, deconvnet
from convlens.workers.methods.goals import score_of
from convlens.workers.methods.maps import Box, MapLayer
from convlens.workers.rectifiers import Rule
from convlens.workers.runner import Pass, Steps
from tests.workers.methods.calibrated import calibrated, picture
from tests.workers.methods.chains import chain, chains
from tests.workers.methods.functions_as_modules import functions_as_modules
from tests.workers.methods.layer_by_layer import Ascent
from tests.workers.methods.small import Small, run
from tests.workers.methods.test_guided_backprop import same

SIZE = 13
SEEDS = {
    pb.DECONVNET_KEEP_STRONGEST_UNIT: "strongest unit",
    pb.DECONVNET_KEEP_WHOLE_MAP: "whole map",
}
MORE = pytest.mark.slow
UNPOOLINGS = [pb.UNPOOLING_SUM, pb.UNPOOLING_MAX]


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """These networks are so small that threads would wait for each other most of the time."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def parameters(**given: Any) -> pb.Deconvnet:
    defaults: dict[str, Any] = {
        "strongest": 9,
        "keep": pb.DECONVNET_KEEP_STRONGEST_UNIT,
        "unpooling": pb.UNPOOLING_SUM,
    }
    return pb.Deconvnet(**(defaults | given))


def layer_of(body: Small, name: str) -> MapLayer:
    call = body.trace.call(name)
    place = maps(body.trace)[call]
    shape = body.trace.calls[call].outputs[0].shape
    return MapLayer(call, shape, place.fields if place else None, "net@1", name)


def projected(body: Small, x: Tensor, name: str, **given: Any) -> DeconvnetResult:
    return run(body, deconvnet(x, layer_of(body, name), parameters(**given)), rows=2)


def small(name: str, seed: int) -> tuple[Small, Ascent, Tensor]:
    return Small(chain(name, seed), (3, SIZE, SIZE)), ascent(name, seed), picture(SIZE, seed)


@cache
def ascent(name: str, seed: int) -> Ascent:
    return Ascent(chain(name, seed), picture(SIZE, seed))


def seeds(output: Tensor, whole: bool) -> list[tuple[int, float, Tensor]]:
    """Map, activation and what is kept, for the maps that are active; the strongest first."""
    found: list[tuple[int, float, Tensor]] = []
    for number, values in enumerate(output):
        kept = torch.zeros_like(output)
        if whole:
            kept[number] = values.clamp(min=0)
        else:
            # Several windows may have the same maximum; the first counts.
            unit = int(values.argmax())
            kept[number].view(-1)[unit] = values.max()
        if values.max() > 0:
            found.append((number, float(values.max()), kept))
    return sorted(found, key=lambda each: -each[1])


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(n, marks=MORE) for n in range(2, 8))])
@pytest.mark.parametrize("unpooling", UNPOOLINGS)
@pytest.mark.parametrize("kept", SEEDS)
@pytest.mark.parametrize("name", chains())
def test_deconvnet_is_the_papers(name: str, kept: Any, unpooling: Any, seed: int) -> None:
    body, ascent, x = small(name, seed)
    whole, largest = kept == pb.DECONVNET_KEEP_WHOLE_MAP, unpooling == pb.UNPOOLING_MAX
    for number, output in enumerate(ascent.given):
        if isinstance(ascent.layers[number], nn.Flatten):
            continue
        found = projected(body, x, str(number), keep=kept, unpooling=unpooling, strongest=3)
        expected = seeds(output, whole)[:3]
        assert [patch.map for patch in found.patches] == [each for each, _, _ in expected]
        for patch, (_, activation, start) in zip(found.patches, expected, strict=True):
            below = ascent.down(number, start, largest=largest)
            same(patch.reconstruction, patch.field.cut(below))
            assert patch.activation == pytest.approx(activation)
            assert torch.equal(patch.input_patch, patch.field.cut(x))
            outside = below.clone()
            outside[
                :, patch.field.top : patch.field.bottom, patch.field.left : patch.field.right
            ] = 0
            assert not outside.any(), "a unit does not see so far"
        same(found.map, ascent.down(number, expected[0][2], largest=largest))


def test_overlapping_windows_are_told_apart_by_sum_and_largest() -> None:
    for name in ("overlapping", "every pixel", "ceil", "padded"):
        body, _, x = small(name, 0)
        by_sum, by_largest = (projected(body, x, "3", unpooling=each).map for each in UNPOOLINGS)
        assert (by_sum - by_largest).abs().max() > 0.01 * by_sum.abs().max()
    body, _, x = small("plain", 0)
    by_sum, by_largest = (projected(body, x, "3", unpooling=each).map for each in UNPOOLINGS)
    same(by_largest, by_sum)


@pytest.mark.parametrize("kept", SEEDS)
def test_a_layer_before_its_rectifier_gives_the_same(kept: Any) -> None:
    body, _, x = small("overlapping", 1)
    before, after = (projected(body, x, name, keep=kept) for name in ("3", "4"))
    for one, other in zip(before.patches, after.patches, strict=True):
        assert (one.map, one.position, one.field) == (other.map, other.position, other.field)
        same(one.reconstruction, other.reconstruction)


def test_a_rectifier_in_place_after_the_layer_does_not_change_it() -> None:
    layers = chain("overlapping", 1)
    plain = Small(layers, (3, SIZE, SIZE))
    x = picture(SIZE, 1)
    expected = projected(plain, x, "3")
    for layer in layers:
        if isinstance(layer, nn.ReLU):
            layer.inplace = True
    same(projected(Small(layers, (3, SIZE, SIZE)), x, "3").map, expected.map)


def test_a_named_map_and_a_named_unit() -> None:
    body, ascent, x = small("padded", 2)
    [patch] = projected(body, x, "4", map_index=1).patches
    row, column = divmod(int(ascent.given[4][1].argmax()), 5)
    assert (patch.map, patch.position) == (1, (row, column))
    active = (ascent.given[4][1] > 0).nonzero().tolist()
    assert len(active) > 1
    for row, column in active:
        given = {"map_index": 1, "position": geometry_pb2.Position(row=row, column=column)}
        [patch] = projected(body, x, "4", **given).patches
        start = torch.zeros_like(ascent.given[4])
        start[1, row, column] = ascent.given[4][1, row, column]
        same(patch.reconstruction, patch.field.cut(ascent.down(4, start)))
        assert patch.position == (row, column)
        assert patch.activation == pytest.approx(float(start.max()))


def test_a_vector_is_maps_of_one_unit() -> None:
    body, ascent, x = small("plain", 0)
    number = len(ascent.given) - 2
    found = projected(body, x, str(number), strongest=2)
    values = ascent.given[number]
    for patch, unit in zip(found.patches, values.argsort(descending=True).tolist(), strict=False):
        assert (patch.map, patch.position, patch.field) == (unit, (0, 0), Box(0, 0, SIZE, SIZE))
        start = torch.zeros_like(values)
        start[unit] = values[unit]
        same(patch.reconstruction, ascent.down(number, start))


@pytest.mark.parametrize(("row", "column"), [(0, 0), (2, 4), (4, 1)])
def test_the_field_is_cut_to_the_picture(row: int, column: int) -> None:
    body, _, _ = small("padded", 0)
    layer = layer_of(body, "4")
    # 3 x 3 over pooling 3 / 2, padded by 1, over 3 x 3 padded by 1: 9 pixels, 2 apart, from -2.
    rows = max(0, -2 + 2 * row), min(SIZE, 7 + 2 * row)
    columns = max(0, -2 + 2 * column), min(SIZE, 7 + 2 * column)
    expected = Box(rows[0], columns[0], rows[1], columns[1])
    assert layer.field((row, column), (SIZE, SIZE)) == expected
    assert layer.field(None, (SIZE, SIZE)) == Box(0, 0, SIZE, SIZE)


def test_a_unit_that_sees_only_padding_has_one_pixel() -> None:
    body = Small(nn.Sequential(nn.Conv2d(3, 4, 1, padding=2), nn.ReLU()), (3, 5, 5))
    layer = layer_of(body, "0")
    assert layer.field((0, 8), (5, 5)) == Box(0, 4, 1, 5)
    assert layer.field(None, (5, 5)) == Box(0, 0, 5, 5)


def quiet(body: Small, number: int) -> None:
    """Silences a map of the first layer."""
    with torch.no_grad():
        body.module.get_submodule("0").get_parameter("bias")[number] = -100


def test_maps_that_are_not_active_are_left_out() -> None:
    body, _, x = small("plain", 0)
    quiet(body, 2)
    found = projected(body, x, "0")
    assert sorted(patch.map for patch in found.patches) == [0, 1, 3, 4]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"map_index": 2}, "map 2 is nowhere active in this picture; choose another map"),
        (
            {"map_index": 2, "position": geometry_pb2.Position(row=1, column=3)},
            "unit (1, 3) of map 2 is not active in this picture; choose another unit",
        ),
        ({}, "none of its maps is active in this picture; choose another layer"),
    ],
)
def test_what_is_not_active_has_no_projection(given: Any, words: str) -> None:
    body, _, x = small("plain", 0)
    for number in [2] if given else range(5):
        quiet(body, number)
    with pytest.raises(Failure) as failure:
        projected(body, x, "1", **given)
    assert failure.value.reason == ErrorReason.ERROR_REASON_LAYER_NOT_APPLICABLE
    assert str(failure.value) == f"Layer '1' of net@1 cannot be used so: {words}."


@pytest.mark.parametrize(
    ("given", "broken"),
    [
        ({"map_index": 4}, [("map_index", "is 4; must be below 4, the number of maps of '3'")]),
        (
            {"map_index": 0, "position": geometry_pb2.Position(row=4, column=3)},
            [("position.row", "is 4; must be below 4, the height of the maps of '3'")],
        ),
        (
            {"map_index": 9, "position": geometry_pb2.Position(row=1, column=7)},
            [
                ("map_index", "is 9; must be below 4, the number of maps of '3'"),
                ("position.column", "is 7; must be below 4, the width of the maps of '3'"),
            ],
        ),
        (
            {"position": geometry_pb2.Position(row=1)},
            [("map_index", "must be set with position: the map whose unit it is")],
        ),
    ],
)
def test_maps_and_units_that_do_not_exist_are_refused(given: Any, broken: Any) -> None:
    body, _, _ = small("plain", 0)
    with pytest.raises(Failure) as failure:
        check(layer_of(body, "3"), parameters(**given), "methods[2].deconvnet")
    found = [(each.field, each.description) for each in failure.value.violations]
    assert found == [(f"methods[2].deconvnet.{field}", words) for field, words in broken]


def test_maps_and_units_that_exist_are_not() -> None:
    body, _, _ = small("plain", 0)
    layer = layer_of(body, "3")
    for given in (
        {},
        {"map_index": 3},
        {"map_index": 0, "position": geometry_pb2.Position(row=3, column=3)},
    ):
        check(layer, parameters(**given), "deconvnet")
    vector = layer_of(body, str(len(body.trace.calls) - 1))
    check(vector, parameters(map_index=9, position=geometry_pb2.Position()), "deconvnet")


def test_a_layer_of_another_shape_is_refused() -> None:
    with pytest.raises(Failure, match=r"\[49, 96\] is neither maps nor a vector"):
        MapLayer(3, (49, 96), None, "swin_t@1", "features.0")


def test_a_deadline_leaves_what_is_done() -> None:
    body, _, x = small("plain", 0)
    late = Failure(ErrorReason.ERROR_REASON_DEADLINE_EXCEEDED, stage="between two passes")
    wrong = Failure(ErrorReason.ERROR_REASON_INTERNAL, request_id="1")
    expected = projected(body, x, "1", strongest=4)

    def ended(*failures: Failure | None) -> DeconvnetResult:
        """What becomes of it if these come in place of some projections."""
        steps: Any = deconvnet(x, layer_of(body, "1"), parameters(strongest=4))
        fork: Any = steps.send(_first(body, steps))
        found = [run(body, branch) for branch in fork.branches]
        try:
            steps.send([each or found[n] for n, each in enumerate(failures)])
        except StopIteration as end:
            return end.value
        raise AssertionError("it goes on")

    found = ended(None, late, None, late)
    assert found.is_partial and not expected.is_partial
    assert [p.map for p in found.patches] == [expected.patches[n].map for n in (0, 2)]
    same(found.map, expected.map)
    for failures, raised in [((late,) * 4, late), ((None, wrong, late, None), wrong)]:
        with pytest.raises(Failure) as failure:
            ended(*failures)
        assert failure.value is raised


def _first(body: Small, steps: Any) -> Any:
    """The answer to the first pass."""

    def same_pass() -> Steps[Any]:
        return (yield next(steps))

    return run(body, same_pass())


def from_the_score(x: Tensor) -> Steps[Tensor]:
    answer = yield Pass(x[None], score_of(2), rule=Rule.DECONVNET)
    return answer.slope[0]


@pytest.mark.filterwarnings("ignore:Input Tensor 0 did not already require gradients")
@pytest.mark.filterwarnings("ignore:Setting backward hooks on ReLU activations")
class TestAgainstCaptum:
    """captum starts with 1 in place of the activation, and leaves functional rectifiers out."""

    @pytest.mark.parametrize("name", ["alexnet", "vgg11", "resnet18"])
    def test_from_a_score(self, name: str) -> None:
        from captum.attr import Deconvolution

        body, x = calibrated(name, 64), picture(64, 5)
        expected = Deconvolution(body.module).attribute(x[None], target=2)[0]
        same(run(body, from_the_score(x), rows=1), expected, 1e-6)

    @pytest.mark.parametrize(
        ("name", "layer"),
        [
            *(("alexnet", "features.2"), ("alexnet", "features.12"), ("alexnet", "classifier.1")),
            *(("vgg11", "features.7"), ("vgg11", "features.20"), ("vgg11", "classifier.1")),
            *(("resnet18", "layer2.1"), ("resnet18", "layer4"), ("resnet18", "layer3.0.bn1")),
        ],
    )
    def test_from_a_layer(self, name: str, layer: str) -> None:
        body, x = calibrated(name, 64), picture(64, 5)
        found = projected(body, x, layer, strongest=2)
        for patch in found.patches:
            expected = by_captum(body.module, layer, x, patch)
            same(patch.reconstruction, patch.field.cut(expected), 1e-6)
        same(found.map, by_captum(body.module, layer, x, found.patches[0]), 1e-6)

    @pytest.mark.parametrize(
        ("name", "layer"), [("googlenet", "inception4a"), ("densenet121", "features.denseblock2")]
    )
    def test_it_is_wrong_where_rectifiers_are_functions(self, name: str, layer: str) -> None:
        from captum.attr import Deconvolution

        body, x = calibrated(name, 64), picture(64, 5)
        found = run(body, from_the_score(x), rows=1)
        wrong = Deconvolution(body.module).attribute(x[None], target=2)[0]
        assert (found - wrong).abs().max() > 0.1 * found.abs().max()
        projection = projected(body, x, layer, strongest=1)
        with functions_as_modules(body.module):
            right = Deconvolution(body.module).attribute(x[None], target=2)[0]
            from_layer = by_captum(body.module, layer, x, projection.patches[0])
        same(found, right, 1e-6)
        same(projection.map, from_layer, 1e-6)


def by_captum(module: nn.Module, layer: str, x: Tensor, patch: Any) -> Tensor:
    from captum.attr import NeuronDeconvolution

    neuron = NeuronDeconvolution(module, module.get_submodule(layer))
    unit: Any = (patch.map, *patch.position)
    unit = unit[:1] if layer.startswith("classifier") else unit
    return neuron.attribute(x[None], unit)[0] * patch.activation
