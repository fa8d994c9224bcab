"""The figures of an evolution."""

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from convlens.client.studies._charts import FAINT, INK, new_figure, picture_of, sheet, style_of
from convlens.client.studies._health_charts import TITLE, filter_tiles
from convlens.client.studies._patch_sheet import plain_pixels, signed_pixels

if TYPE_CHECKING:
    from convlens.client.studies._evolution import Evolution

# In pixels: of a patch, between them and between maps, above a checkpoint, left of a map.
SIDE, GAP, SPACE, HEAD, LEFT = 84, 3, 16, 24, 64
LINE = 16
# Of a filter, and how many are beside each other.
FILTER, ACROSS = 30, 12


def patches(study: "Evolution") -> Image.Image:
    """A block for each map: its projection at each checkpoint, and below it the picture's patch.

    Each projection has a scale of its own, since activations grow; the number below is the
    activation, and a star before it says that another picture is the strongest now.
    """
    step, block = SIDE + SPACE, 2 * SIDE + GAP + LINE + SPACE
    width = LEFT + len(study.checkpoints) * step
    made = Image.new("RGB", (width, HEAD + len(study.maps) * block), "white")
    draw, font, small = _pen(made)
    jumps = study.jumps()
    for column, one in enumerate(study.checkpoints):
        left = LEFT + column * step
        draw.text((left, 2), _cut(one.network, step - 4, small), INK, small)
        for row, index in enumerate(study.maps):
            top, patch = HEAD + row * block, one.patches[index]
            values = patch.projection
            scale = float(np.abs(values).max(initial=0)) if values is not None else 0.0
            pair = [[signed_pixels(values, scale)], [plain_pixels(patch.pixels)]]
            made.paste(Image.fromarray(sheet(pair, side=SIDE, gap=GAP)), (left, top))
            star = "* " if column in jumps[index] else ""
            words = f"{star}{patch.activation:.3g}"
            draw.text((left, top + 2 * SIDE + GAP + 2), words, FAINT, small)
    for row, index in enumerate(study.maps):
        draw.text((4, HEAD + row * block + SIDE - 8), f"map {index}", INK, font)
    return made


def filters(study: "Evolution") -> Image.Image:
    """The first filters at each checkpoint, one sheet below the other, each on a scale."""
    shown = [one for one in study.checkpoints if one.filters is not None]
    sheets = [
        filter_tiles(one.filters.weights, FILTER, ACROSS)
        for one in shown
        if one.filters is not None
    ]
    height = max(each.shape[0] for each in sheets)
    width = max(240, max(each.shape[1] for each in sheets))
    columns = 2 if height < width else 3
    rows = -(-len(sheets) // columns)
    size = (columns * (width + SPACE) + SPACE, rows * (height + HEAD + SPACE) + SPACE)
    made = Image.new("RGB", size, "white")
    draw, _, small = _pen(made)
    for number, (one, each) in enumerate(zip(shown, sheets, strict=True)):
        left = SPACE + number % columns * (width + SPACE)
        top = SPACE + number // columns * (height + HEAD + SPACE)
        assert one.filters is not None
        words = _cut(f"{one.network}: {one.filters.verdict}", width, small)
        draw.text((left, top), words, INK, small)
        made.paste(Image.fromarray(each), (left, top + HEAD))
    return made


def curves(study: "Evolution") -> Image.Image:
    """The strongest activation of each map, and how far the first filters are from the last."""
    changes = study.filter_changes()
    figure, axes = new_figure(9.2 if changes else 5.4, 3.6, 1, 2 if changes else 1)
    names = [one.network for one in study.checkpoints]
    places = range(len(names))
    left = axes[0][0]
    for number, index in enumerate(study.maps):
        values = [one.patches[index].activation for one in study.checkpoints]
        left.plot(places, values, marker="o", markersize=3, label=index, **style_of(number))
    left.set_title(f"Strongest activation, {study.layer}", **TITLE)
    left.set_ylim(bottom=min(0.0, left.get_ylim()[0]))
    if len(study.maps) <= 16:
        left.legend(title="map", fontsize=7, title_fontsize=8, ncols=2, frameon=False)
    if changes:
        right = axes[0][1]
        for number, (values, words) in enumerate(
            zip(zip(*changes, strict=True), ("from the one before", "from the last"), strict=True)
        ):
            percent = [100 * value for value in values]
            right.plot(places, percent, marker="o", label=words, clip_on=False, **style_of(number))
        right.set_title("Distance of the first filters", **TITLE)
        right.set_ylabel("% of the last filters' length")
        right.set_ylim(bottom=0)
        right.legend(fontsize=8, frameon=False)
    for axis in axes[0]:
        axis.set_xticks(places, names, rotation=30, ha="right")
    return picture_of(figure)


def _pen(
    made: Image.Image,
) -> tuple[ImageDraw.ImageDraw, ImageFont.FreeTypeFont, ImageFont.FreeTypeFont]:
    fonts = [ImageFont.load_default(size) for size in (13, 11)]
    large, small = fonts
    assert isinstance(large, ImageFont.FreeTypeFont)
    assert isinstance(small, ImageFont.FreeTypeFont)
    return ImageDraw.Draw(made), large, small


def _cut(text: str, width: int, font: ImageFont.FreeTypeFont) -> str:
    """The text, or as much of its end as fits."""
    if font.getlength(text) <= width:
        return text
    ends = (f"\N{HORIZONTAL ELLIPSIS}{text[at:]}" for at in range(len(text)))
    return next((end for end in ends if font.getlength(end) <= width), "")
