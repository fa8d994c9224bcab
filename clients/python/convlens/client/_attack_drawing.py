"""Draws an attack on one picture: what there was, what was added, and what came of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from convlens.client._drawing import Pixels, drawn, scale_of
from convlens.client._lettering import write
from convlens.client._results import ClassScore
from convlens.client._text import percent

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

# In pixels of the sheet: the narrowest column, and the longest side of a picture.
LEAST, MOST = 288, 448
MARGIN, TITLE, ROW, BAR = 24, 34, 40, 6
LARGE, SMALL = 17, 14
# Of the best classes, so many are written.
SHOWN = 5
INK, DIM, TRACK, OLD, NEW = "#111827", "#6b7280", "#e5e7eb", "#2563eb", "#dc2626"


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two pictures, [height, width, 3], and what the network says of it."""

    title: str
    pixels: Pixels
    scores: Sequence[ClassScore]


def attack_sheet(
    original: Side, adversarial: Side, change: NDArray[Any], words: Sequence[str]
) -> Pixels:
    """The original, the change made visible, and the adversarial picture, side by side.

    The change [height, width, channels] is grey where it is 0; by how much it is multiplied is
    written over it, and `words` below it. Classes are listed below both pictures: blue is the
    original's, red what the network takes the adversarial picture for instead.
    """
    from PIL import Image, ImageDraw

    middle, factor = amplified(change)
    added = f"change, {factor:.3g} times" if factor else "no change"
    panels = [_fitted(p) for p in (original.pixels, middle, adversarial.pixels)]
    height, width = panels[0].shape[:2]
    rows = max(len(original.scores[:SHOWN]), len(adversarial.scores[:SHOWN]), len(words))
    cell = max(width, LEAST)
    size = (3 * cell + 4 * MARGIN, TITLE + height + 2 * MARGIN + rows * ROW)
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    lefts = [MARGIN + number * (cell + MARGIN) for number in range(3)]
    below = TITLE + height + MARGIN
    for left, panel, title in zip(
        lefts, panels, (original.title, added, adversarial.title), strict=True
    ):
        write(draw, (left, 10), title, LARGE, INK, most=cell)
        sheet.paste(Image.fromarray(panel), (left, TITLE))
    own = original.scores[0].index if original.scores else None
    taken = adversarial.scores[0].index if adversarial.scores else None
    colors = {taken: NEW, own: OLD}
    _list(draw, (lefts[0], below), cell, original.scores, colors)
    _list(draw, (lefts[2], below), cell, adversarial.scores, colors)
    for number, line in enumerate(words):
        color = DIM if number else INK
        write(draw, (lefts[1], below + number * (ROW - 12)), line, SMALL, color, most=cell)
    return np.asarray(sheet)


def amplified(change: NDArray[Any]) -> tuple[Pixels, float]:
    """A change [height, width, channels] as a picture that is grey where it is 0, and by how much
    it is multiplied there; by 0 where there is none.
    """
    scale = scale_of(change.astype(np.float64))
    # What `drawn` makes of a change of `scale` is half the range of a pixel.
    return drawn(change, "reconstruction", scale), 0.5 / scale if change.any() else 0.0


def _list(
    draw: "ImageDraw",
    place: tuple[int, int],
    width: int,
    scores: Sequence[ClassScore],
    colors: dict[int | None, str],
) -> None:
    """The best classes, each with a bar as long as it is likely."""
    left, top = place
    for score in scores[:SHOWN]:
        color = colors.get(score.index, DIM)
        share = score.probability or 0
        write(draw, (left, top), score.label, SMALL, color, most=width - 80)
        write(draw, (left + width, top), percent(share, 1), SMALL, color, from_right=True)
        y = top + 21
        draw.rectangle((left, y, left + width - 1, y + BAR - 1), TRACK)
        filled = round(width * min(1.0, share))
        if filled:
            draw.rectangle((left, y, left + filled - 1, y + BAR - 1), color)
        top += ROW


def _fitted(pixels: Pixels) -> Pixels:
    """The picture as large as the sheet has it."""
    from PIL import Image

    if factor := MOST // max(pixels.shape[:2]):
        return pixels.repeat(factor, axis=0).repeat(factor, axis=1)
    image = Image.fromarray(pixels)
    image.thumbnail((MOST, MOST), Image.Resampling.LANCZOS)
    return np.asarray(image)
