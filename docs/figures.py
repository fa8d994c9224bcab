"""What the pictures of the documentation are made of: tiles and words, in rows and columns."""

from collections.abc import Iterable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

INK, FAINT = "#1f2430", "#6b7280"
# Around a picture, which may lie on a dark page.
MARGIN = 24
# Words are drawn larger and scaled down: so they are as smooth as what stands beside them.
OVER = 4
# Bytes of a picture above which it is written in fewer colours.
LARGE = 110_000

Numbers = NDArray[Any]


def blank(width: int, height: int, color: str = "white") -> Image.Image:
    """An empty picture."""
    return Image.new("RGB", (width, height), color)


def tile(source: Path | bytes, side: int) -> Image.Image:
    """A square picture, smooth at any size."""
    with Image.open(BytesIO(source) if isinstance(source, bytes) else source) as opened:
        return opened.convert("RGB").resize((side, side), Image.Resampling.LANCZOS)


def squares(image: Image.Image, width: int) -> Image.Image:
    """A picture of few numbers at a width, each number a square."""
    height = round(image.height * width / image.width)
    large = image.convert("RGB").resize(
        (8 * image.width, 8 * image.height), Image.Resampling.NEAREST
    )
    return large.resize((width, height), Image.Resampling.BOX)


def colored(shares: Numbers, heat_map: bytes, side: int) -> Image.Image:
    """Numbers [rows, columns] in [0, 1] in the colours of a heat map, each number a square."""
    colors = colors_of(heat_map)
    shades = (shares.clip(0, 1) * (len(colors) - 1)).round().astype(int)
    return squares(Image.fromarray(colors[shades]), side)


def colors_of(heat_map: bytes) -> NDArray[np.uint8]:
    """The colours of a heat map [colours, 3], from the first to the last."""
    with Image.open(BytesIO(heat_map)) as opened:
        palette = opened.getpalette()
    assert palette, "a heat map comes with its colours"
    # The last one is that of what the map does not cover.
    return np.array(palette, np.uint8).reshape(-1, 3)[:-1]


def words(text: str, size: int = 15, color: str = INK) -> Image.Image:
    """A line of text, as high as every other one of its size."""
    font = ImageFont.load_default(size * OVER)
    width = round(font.getlength(text))
    canvas = blank(max(width, OVER), round(1.35 * size) * OVER)
    baseline = round(1.02 * size) * OVER
    ImageDraw.Draw(canvas).text((0, baseline), text, fill=color, font=font, anchor="ls")
    return canvas.resize((-(-canvas.width // OVER), canvas.height // OVER), Image.Resampling.BOX)


def apart(left: Image.Image, right: Image.Image, width: int) -> Image.Image:
    """Two pictures at the ends of a line of this width."""
    return row([left, right], max(0, width - left.width - right.width))


def row(images: Iterable[Image.Image], gap: int, place: float = 0.5) -> Image.Image:
    """Pictures side by side; `place` says where lower ones stand, from 0 for the top to 1."""
    found = list(images)
    height = max(image.height for image in found)
    canvas = blank(sum(image.width for image in found) + gap * (len(found) - 1), height)
    left = 0
    for image in found:
        canvas.paste(image, (left, round((height - image.height) * place)))
        left += image.width + gap
    return canvas


def column(images: Iterable[Image.Image], gap: int, place: float = 0.0) -> Image.Image:
    """Pictures one below the other; `place` says where narrower ones stand, from 0 for the left."""
    found = list(images)
    width = max(image.width for image in found)
    canvas = blank(width, sum(image.height for image in found) + gap * (len(found) - 1))
    top = 0
    for image in found:
        canvas.paste(image, (round((width - image.width) * place), top))
        top += image.height + gap
    return canvas


def grid(images: Sequence[Image.Image], columns: int, gap: int) -> Image.Image:
    """Pictures of one size in rows."""
    starts = range(0, len(images), columns)
    return column((row(images[start : start + columns], gap) for start in starts), gap)


def legend(heat_map: bytes, first: str, last: str, size: int = 13) -> Image.Image:
    """What the colours of a heat map say."""
    bar = Image.fromarray(colors_of(heat_map)[None]).resize((110, 8), Image.Resampling.BILINEAR)
    return row([words(first, size, FAINT), bar, words(last, size, FAINT)], 8)


def save(image: Image.Image, path: Path) -> None:
    """Writes a picture with a margin, in as many colours as are not too many bytes."""
    canvas = blank(image.width + 2 * MARGIN, image.height + 2 * MARGIN)
    canvas.paste(image, (MARGIN, MARGIN))
    written = png_of(canvas)
    for common in (128, 40):
        if len(written) > LARGE:
            written = png_of(with_palette(canvas, common))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(written)


def with_palette(image: Image.Image, common: int) -> Image.Image:
    """The picture in 256 colours: white, the most common ones, and others from everywhere."""
    often = image.quantize(common, Image.Quantize.MEDIANCUT, kmeans=2).getpalette() or []
    rarely = image.quantize(255 - common, Image.Quantize.MAXCOVERAGE, kmeans=2).getpalette() or []
    palette = Image.new("P", (1, 1))
    palette.putpalette([255, 255, 255, *often, *rarely])
    return image.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG)


def png_of(image: Image.Image) -> bytes:
    """The picture as a PNG."""
    buffer = BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
