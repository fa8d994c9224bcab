"""Maps drawn: the right colours, in the right places, whatever the numbers are."""

import io
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cmap
import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image

from convlens.contract import Failure, with_defaults
from convlens.v1 import explanation_pb2 as pb
from convlens.v1 import geometry_pb2, image_pb2, network_pb2
from convlens.workers.images import Pixels, prepare
from convlens.workers.rendering import check_rendering, draw, draw_filter, draw_plane, limit_of
from convlens.workers.rendering.colors import SHADES, colors_of
from convlens.workers.rendering.drawing import LONGEST
from convlens.workers.rendering.ink import UNSEEN

HEAT, OVERLAY = pb.RENDERING_STYLE_HEAT_MAP, pb.RENDERING_STYLE_OVERLAY
POSITIVE, SIGNED = pb.MAP_SIGN_NON_NEGATIVE, pb.MAP_SIGN_SIGNED
RECONSTRUCTION = pb.MAP_SIGN_RECONSTRUCTION
INPUT = network_pb2.InputGeometry(
    height=64, width=64, channels=3, resize=72, interpolation=image_pb2.INTERPOLATION_BILINEAR
)
SMALL = Pixels(torch.rand(3, 20, 30, generator=torch.Generator().manual_seed(0)))


def rendering(**given: Any) -> pb.Rendering:
    made = pb.Rendering(**given)
    return with_defaults(made)


def fixed(**given: Any) -> pb.Rendering:
    """At the network's size, with 1 as the last colour."""
    given = {"scale": pb.COLOR_SCALE_FIXED, "maximum": 1.0, "original_size": False} | given
    return rendering(**given)


def geometry(box: tuple[float, float, float, float], height: int, width: int) -> pb.MapGeometry:
    left, top, right, bottom = box
    crop = geometry_pb2.Box(left=left, top=top, right=right, bottom=bottom)
    return pb.MapGeometry(crop=crop, original_height=height, original_width=width)


WHOLE = geometry((0, 0, 30, 20), 20, 30)


def seen(png: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(png)) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB")).astype(int)


def colors_at(name: str, places: np.ndarray) -> np.ndarray:
    """What the library itself says, to the nearest of many colours in [0, 255]."""
    return np.asarray(cmap.Colormap(name)(places, N=10_001))[..., :3] * 255


def ramp(low: float) -> np.ndarray:
    return np.linspace(low, 1, 600).reshape(20, 30)


@pytest.mark.parametrize("name", ["viridis", "inferno", "magma_r", "jet", "Greys"])
def test_a_heat_map_has_the_colours_of_its_colormap(name: str) -> None:
    found = seen(draw(ramp(0), POSITIVE, fixed(colormap=name), SMALL, WHOLE))
    # Of 255 shades, the next one is at most half of one away.
    assert np.abs(found - colors_at(name, ramp(0))).max() <= 3


@pytest.mark.parametrize("name", ["", "RdBu_r", "viridis"])
def test_signed_maps_are_symmetric_around_zero(name: str) -> None:
    map = ramp(-1)
    there = seen(draw(map, SIGNED, fixed(colormap=name), SMALL, WHOLE))
    assert np.abs(there - colors_at(name or "CET_D4", (map + 1) / 2)).max() <= 3
    zero = seen(draw(0 * map, SIGNED, fixed(colormap=name), SMALL, WHOLE))
    assert np.abs(zero - colors_at(name or "CET_D4", np.array([0.5]))).max() <= 1


def test_the_default_of_signed_maps_tells_signs_apart_at_every_strength() -> None:
    colors = colors_of("", signed=True).table.astype(int)
    red_over_blue = colors[:, 0] - colors[:, 2]
    assert (red_over_blue[:100] < -20).all() and (red_over_blue[-100:] > 20).all()
    assert np.ptp(colors[SHADES // 2]) <= 3 and colors[SHADES // 2].max() < 40


def test_a_diverging_colormap_is_centred_on_zero_without_signs_too() -> None:
    map = ramp(0)
    there = seen(draw(map, POSITIVE, fixed(colormap="coolwarm"), SMALL, WHOLE))
    assert np.abs(there - colors_at("coolwarm", (map + 1) / 2)).max() <= 3


def test_the_scale_is_a_percentile_of_absolute_values() -> None:
    map = np.random.default_rng(0).normal(size=(20, 30)) ** 3
    ordered = sorted(abs(value) for value in map.flat)
    place = 0.9 * (len(ordered) - 1)
    low = int(place)
    expected = ordered[low] + (place - low) * (ordered[low + 1] - ordered[low])
    assert limit_of(map, rendering(percentile=90)) == pytest.approx(expected)
    assert limit_of(map, rendering(percentile=100)) == np.abs(map).max()
    by_percentile = draw(map, SIGNED, rendering(percentile=90), SMALL, WHOLE)
    at = rendering(scale=pb.COLOR_SCALE_FIXED, maximum=expected)
    assert by_percentile == draw(map, SIGNED, at, SMALL, WHOLE)


def test_a_scale_of_few_numbers_is_not_zero() -> None:
    map = np.zeros((20, 30))
    map[3, 4] = -0.25
    assert limit_of(map, rendering()) == 0.25
    assert limit_of(0 * map, rendering()) == 1


def test_an_overlay_is_a_mixture_with_the_grey_picture() -> None:
    original = Image.fromarray(skimage.data.coffee()).resize((30, 20))
    picture, grey = Pixels(original), np.asarray(original.convert("L")).astype(int)[..., None]
    map = ramp(0)
    heat = seen(draw(map, POSITIVE, fixed(), picture, WHOLE))
    for opacity in (0, 0.3, 1):
        mixed = draw(map, POSITIVE, fixed(style=OVERLAY, opacity=opacity), picture, WHOLE)
        expected = (1 - opacity) * grey + opacity * heat
        assert np.abs(seen(mixed) - expected).max() <= 1


@pytest.mark.parametrize("channels", [1, 3])
def test_float_pictures_are_drawn_like_bytes(channels: int) -> None:
    values = np.asarray(Image.fromarray(skimage.data.coffee()).resize((30, 20)))[..., :channels]
    image = Image.fromarray(values[..., 0] if channels == 1 else values)
    floats = torch.from_numpy((values.transpose(2, 0, 1) / 255).astype(np.float32))
    style = fixed(style=OVERLAY)
    ours = [draw(ramp(0), POSITIVE, style, Pixels(one), WHOLE) for one in (image, floats)]
    assert ours[0] == ours[1]


def test_channels_are_colours_around_grey() -> None:
    map = np.random.default_rng(0).uniform(-1, 1, (20, 30, 3))
    for sign in (SIGNED, RECONSTRUCTION):
        found = seen(draw(map, sign, fixed(), SMALL, WHOLE))
        assert np.abs(found - (map + 1) / 2 * 255).max() <= 0.51
    found = seen(draw(np.abs(map), POSITIVE, fixed(), SMALL, WHOLE))
    assert np.abs(found - np.abs(map) * 255).max() <= 0.51


def test_a_reconstruction_without_colour_is_grey() -> None:
    map = ramp(-1)
    for values in (map, map[..., None]):
        found = seen(draw(values, RECONSTRUCTION, fixed(colormap="viridis"), SMALL, WHOLE))
        assert np.abs(found - ((map + 1) / 2 * 255)[..., None]).max() <= 2


SIZES = [(100, 160), (161, 97), (72, 72), (201, 64), (31, 45), (40, 640)]


@pytest.mark.parametrize("resize", [72, 50])
@pytest.mark.parametrize("size", SIZES)
def test_the_map_lies_where_the_network_saw_it(size: tuple[int, int], resize: int) -> None:
    height, width = size
    input = network_pb2.InputGeometry()
    input.CopyFrom(INPUT)
    input.resize = resize
    # A picture of its own places, so that the network's input is a map of them.
    y, x = np.mgrid[:height, :width].astype(np.float32) + np.float32(0.5)
    places = torch.from_numpy(np.stack([y / height, x / width, np.ones_like(x)]))
    prepared = prepare(Pixels(places), input, image_pb2.GEOMETRY_UNSPECIFIED, "any")
    map = prepared.tensor.movedim(0, -1).numpy()
    one = rendering(scale=pb.COLOR_SCALE_FIXED, maximum=1)
    lies = geometry(prepared.box, height, width)
    found = seen(draw(map, POSITIVE, one, Pixels(places), lies))
    assert found.shape == (height, width, 3)
    x0, y0, x1, y1 = prepared.box
    covered = (y[:, :1] >= y0) & (y[:, :1] < y1) & (x[:1] >= x0) & (x[:1] < x1)
    assert (found[~covered] == UNSEEN).all()
    # At the edges the filters are cut off.
    rim = 2 + 1.5 * (y1 - y0) / 64
    inner = (np.abs(y - (y0 + y1) / 2) < min(y1 - y0, height) / 2 - rim) & (
        np.abs(x - (x0 + x1) / 2) < min(x1 - x0, width) / 2 - rim
    )
    assert inner.any()
    down = np.abs(found[..., 0] / 255 * height - y)[inner]
    across = np.abs(found[..., 1] / 255 * width - x)[inner]
    assert down.max() < 0.25 + height / 255 and across.max() < 0.25 + width / 255


def test_what_the_network_did_not_see_is_grey_and_faded() -> None:
    picture = Pixels(Image.new("RGB", (40, 20), (240, 240, 240)))
    lies = geometry((10, 0, 30, 20), 20, 40)
    map = np.ones((64, 64))
    heat = seen(draw(map, POSITIVE, rendering(), picture, lies))
    assert (heat[:, :10] == UNSEEN).all() and (heat[:, 30:] == UNSEEN).all()
    assert (heat[:, 10:30] == colors_of("", signed=False).table[-1]).all()
    overlay = seen(draw(map, POSITIVE, rendering(style=OVERLAY), picture, lies))
    # Covered by half twice: 240 over (240 + 96) / 2 to (168 + 96) / 2.
    assert (overlay[:, :10] == 132).all()
    colored = seen(draw(np.zeros((64, 64, 3)), SIGNED, rendering(), picture, lies))
    assert (colored[:, :10] == UNSEEN).all() and (colored[:, 10:30] == 128).all()


@pytest.mark.parametrize(
    ("size", "drawn"),
    [((3000, 4000), (768, 1024)), ((4097, 64), (1024, 16)), ((1024, 1024), (1024, 1024))],
)
def test_large_pictures_are_drawn_smaller(size: tuple[int, int], drawn: tuple[int, int]) -> None:
    height, width = size
    picture = Pixels(Image.new("L", (width, height), 100))
    side = min(size) * 8 / 9
    top, left = (height - side) / 2, (width - side) / 2
    lies = geometry((left, top, left + side, top + side), height, width)
    for style in (HEAT, OVERLAY):
        found = seen(draw(np.ones((64, 64)), POSITIVE, rendering(style=style), picture, lies))
        assert found.shape == (*drawn, 3) and max(drawn) == LONGEST
        saw = (found != found[0, 0]).any(axis=2)
        assert saw.sum() == pytest.approx((side * drawn[0] / height) ** 2, rel=0.05)


@pytest.mark.parametrize("size", [(1, 16384), (16384, 1), (1, 1), (2, 5000)])
def test_the_thinnest_pictures_show_a_pixel_at_least(size: tuple[int, int]) -> None:
    picture = Pixels(Image.new("RGB", (size[1], size[0])))
    prepared = prepare(picture, INPUT, image_pb2.GEOMETRY_UNSPECIFIED, "any")
    lies = geometry(prepared.box, *size)
    found = seen(draw(np.ones((64, 64)), POSITIVE, rendering(), picture, lies))
    assert (found == colors_of("", signed=False).table[-1]).all(axis=2).any()


def test_a_coarse_grid_is_spread_over_the_picture() -> None:
    grid = np.zeros((4, 6))
    grid[1, 4] = 1
    found = seen(draw(grid, POSITIVE, fixed(colormap="gray"), SMALL, WHOLE))[..., 0]
    rows, columns = np.nonzero(found == found.max())
    assert rows.mean() == 7 and columns.mean() == 22
    assert found[0, 0] == 0


EXTREMES = {
    "zeros": np.zeros((20, 30)),
    "constant": np.full((20, 30), 0.3),
    "negative": np.full((20, 30), -2.0),
    "tiny": np.random.default_rng(0).normal(size=(20, 30)) * 1e-310,
    "huge": np.random.default_rng(0).normal(size=(20, 30)) * 1e300,
    "NaN": np.where(np.eye(20, 30) > 0, np.nan, 1.0),
    "all NaN": np.full((20, 30), np.nan),
    "infinite": np.where(np.eye(20, 30) > 0, -np.inf, 1.0),
    "one number": np.ones((1, 1)),
    "half": np.full((20, 30), 60000, np.float16),
    "single": np.full((20, 30), 3e38, np.float32),
}


@pytest.mark.parametrize("sign", [POSITIVE, SIGNED, RECONSTRUCTION])
@pytest.mark.parametrize("name", EXTREMES)
def test_every_number_is_drawn_without_a_warning(name: str, sign: Any) -> None:
    map = EXTREMES[name]
    for values in (map, map[..., None], np.stack([map] * 3, axis=2)):
        assert seen(draw(values, sign, rendering(), SMALL, WHOLE)).shape == (20, 30, 3)
        seen(draw(values, sign, fixed(maximum=5e-324), SMALL, WHOLE))
        seen(draw_plane(values, sign, rendering()))
    seen(draw_filter(np.stack([map] * 3), sees_pixels=True))
    seen(draw_filter(np.stack([map] * 3), sees_pixels=False))


def test_a_constant_map_has_one_colour() -> None:
    colors = colors_of("", signed=False).table
    for values, expected in ((np.ones((20, 30)), colors[-1]), (np.zeros((20, 30)), colors[0])):
        assert (seen(draw(values, POSITIVE, rendering(), SMALL, WHOLE)) == expected).all()


def test_drawing_changes_nothing_and_depends_on_nothing() -> None:
    map = np.random.default_rng(0).normal(size=(64, 64))
    before, picture = map.copy(), Pixels(Image.fromarray(skimage.data.coffee()))
    lies = geometry((100, 0, 500, 400), 400, 600)
    style = rendering(style=OVERLAY)
    first = draw(map, SIGNED, style, picture, lies)
    with ThreadPoolExecutor(4) as pool:
        again = list(pool.map(lambda _: draw(map, SIGNED, style, picture, lies), range(12)))
    assert set(again) == {first} and np.array_equal(map, before)


@pytest.mark.parametrize(
    ("size", "drawn"), [((4, 4), 128), ((1, 1), 128), ((13, 5), 130), ((200, 3), 200)]
)
def test_small_planes_are_drawn_large(size: tuple[int, int], drawn: int) -> None:
    values = np.random.default_rng(0).random(size)
    found = seen(draw_plane(values, POSITIVE, fixed(colormap="gray")))
    factor = drawn // max(size)
    assert found.shape == (size[0] * factor, size[1] * factor, 3)
    squares = found.reshape(size[0], factor, size[1], factor, 3)
    assert (squares == squares[:, :1, :, :1]).all()
    assert np.abs(squares[:, 0, :, 0] - values[..., None] * 255).max() <= 2


def test_patches_share_a_scale() -> None:
    patch = np.random.default_rng(0).uniform(-1, 1, (40, 30, 3))
    found = seen(draw_plane(patch, RECONSTRUCTION, rendering(), limit=2))
    assert np.abs(found[::4, ::4] - (patch / 2 + 1) / 2 * 255).max() <= 0.51
    alone = seen(draw_plane(patch, RECONSTRUCTION, rendering(percentile=100)))
    assert alone.min() <= 1 and alone.max() >= 254


def test_filters_that_see_pixels_are_in_colour() -> None:
    weights = np.random.default_rng(0).normal(size=(3, 7, 7))
    found = seen(draw_filter(weights, sees_pixels=True))
    assert found.shape == (133, 133, 3)
    expected = (weights.transpose(1, 2, 0) / np.abs(weights).max() + 1) / 2 * 255
    assert np.abs(found[::19, ::19] - expected).max() <= 0.51
    shared = seen(draw_filter(weights, sees_pixels=True, limit=1e9))
    assert (shared == 128).all()


def test_other_filters_are_planes_side_by_side() -> None:
    weights = np.random.default_rng(0).normal(size=(5, 3, 3))
    found = seen(draw_filter(weights, sees_pixels=False))
    # Three planes in the first row and two in the second, each number 29 pixels wide.
    assert found.shape == (87 + 2 + 87, 3 * 87 + 2 * 2, 3)
    assert (found[:, 87:89] == 255).all() and (found[89:, 178:] == 255).all()
    last = found[89::29, 89 : 89 + 87 : 29, 0]
    assert np.abs(last - (weights[4] / np.abs(weights).max() + 1) / 2 * 255).max() <= 2


def test_every_colormap_of_the_library_draws() -> None:
    names = cmap.Colormap.catalog().unique_keys(prefer_short_names=False)
    assert len(names) > 500
    for name in names:
        table = colors_of(name, signed=False).table
        assert table.shape == (SHADES, 3)
        assert np.abs(table[[0, -1]] - colors_at(name, np.array([0.0, 1.0]))).max() <= 1, name


def test_names_are_taken_as_people_write_them(caplog: pytest.LogCaptureFixture) -> None:
    for name in ("viridis", "Viridis", "RdBu", "coolwarm", "CET_D4", "cet-d4", "bids:viridis_r"):
        check_rendering(rendering(colormap=name))
    assert not caplog.records
    straight, reverse = (colors_of(name, signed=False).table for name in ("RdBu", "RdBu_r"))
    assert np.abs(straight.astype(int) - reverse[::-1]).max() <= 1


@pytest.mark.parametrize(
    ("name", "told"),
    [("viridiss", "did you mean viridis"), ("no such colours", "inferno, viridis"), ("_r", "vik")],
)
def test_an_unknown_colormap_is_refused_with_near_names(name: str, told: str) -> None:
    with pytest.raises(Failure) as caught:
        check_rendering(rendering(colormap=name), "rendering")
    [violation] = caught.value.violations
    assert violation.field == "rendering.colormap"
    assert told in violation.description and repr(name) in violation.description


def test_a_fixed_scale_needs_its_value() -> None:
    with pytest.raises(Failure) as caught:
        check_rendering(rendering(scale=pb.COLOR_SCALE_FIXED, colormap="nonsense"))
    maximum, colormap = caught.value.violations
    assert maximum.field == "rendering.maximum" and colormap.field == "rendering.colormap"
    check_rendering(rendering(scale=pb.COLOR_SCALE_FIXED, maximum=2))


def test_nobody_waits_for_libraries_who_does_not_draw() -> None:
    code = "import sys, convlens.workers.rendering; print('cmap' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"]
