"""A sheet of the mistakes that a network is surest of."""

from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from convlens.client._text import percent, printable
from convlens.client.studies._charts import FAINT, INK, fitted
from convlens.client.studies._reading import small

if TYPE_CHECKING:
    from convlens.client.studies._accuracy import Accuracy

# Mistakes that are shown, and how many beside each other.
MOST, ACROSS = 24, 6
# In pixels: of a picture, around it, and of a line of text.
SIDE, SPACE, LINE = 150, 14, 19
WRONG = "#b3261e"


def mistakes_sheet(found: "Accuracy") -> Image.Image:
    """The pictures, the surest mistake first, each with what was told and what is true."""
    shown = found.mistakes[:MOST]
    across = min(ACROSS, len(shown))
    width, height = SIDE + SPACE, SIDE + 2 * LINE + SPACE
    size = (across * width + SPACE, ceil(len(shown) / ACROSS) * height + SPACE)
    made = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(made)
    font = ImageFont.load_default(13)
    for place, each in enumerate(shown):
        left, top = SPACE + place % ACROSS * width, SPACE + place // ACROSS * height
        tile = _tile(each.picture)
        made.paste(tile, (left + (SIDE - tile.width) // 2, top + (SIDE - tile.height) // 2))
        sure = f" {percent(each.confidence)}"
        words = (f"{_cut(each.told, font, sure)}{sure}", _cut(f"is {each.true}", font))
        for line, (text, colour) in enumerate(zip(words, (WRONG, FAINT), strict=True)):
            draw.text((left, top + SIDE + 3 + line * LINE), text, colour, font)
    return made


def _tile(file: Path) -> Image.Image:
    # It was there when it was asked for.
    picture = small(file, SIDE) or Image.new("RGB", (SIDE, SIDE), INK)
    return Image.fromarray(fitted(np.asarray(picture), SIDE))


def _cut(name: str, font: "ImageFont.ImageFont | ImageFont.FreeTypeFont", after: str = "") -> str:
    """As much of the name as fits below a picture with what comes after it."""
    text = printable(name)
    if font.getlength(text + after) <= SIDE:
        return text
    while len(text) > 1 and font.getlength(f"{text}…{after}") > SIDE:
        text = text[:-1]
    return f"{text}…"
