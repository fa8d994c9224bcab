"""Writes text into pictures, with the fonts that the machine has."""

from functools import cache
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont, ImageFont

    Font: TypeAlias = FreeTypeFont | ImageFont

# The first of these that there is; Pillow's own knows little more than ASCII.
NAMES = ("DejaVuSans.ttf", "Arial Unicode.ttf", "Arial.ttf", "arial.ttf", "NotoSans-Regular.ttf")
# One that no font has.
NO_CHARACTER = "\U0010fffe"
INSTEAD = "?"


def write(
    draw: "ImageDraw",
    place: tuple[float, float],
    text: str,
    size: int,
    color: str,
    *,
    most: float | None = None,
    from_right: bool = False,
) -> None:
    """One line with its top at `place`, its left there or its right; cut to `most` pixels."""
    font = _font(size)
    text = "".join(char if _has(size, char) else INSTEAD for char in text)
    if most is not None:
        text = _cut(text, font, most)
    left = place[0] - font.getlength(text) if from_right else place[0]
    draw.text((left, place[1]), text, fill=color, font=font)


def _cut(text: str, font: "Font", most: float) -> str:
    """The start of the text that fits."""
    if font.getlength(text) <= most:
        return text
    while text and font.getlength(f"{text}...") > most:
        text = text[:-1]
    return f"{text}..."


@cache
def _font(size: int) -> "Font":
    from PIL import ImageFont

    for name in NAMES:
        try:
            return ImageFont.truetype(name, size)
        except OSError:
            continue
    return ImageFont.load_default(size)


@cache
def _has(size: int, char: str) -> bool:
    """Whether the font can draw it: what it lacks all looks the same."""
    return char.isprintable() and (char == " " or _drawn(size, char) != _drawn(size, NO_CHARACTER))


def _drawn(size: int, char: str) -> bytes:
    from PIL import Image, ImageDraw

    image = Image.new("L", (2 * size, 2 * size))
    ImageDraw.Draw(image).text((0, 0), char, fill=255, font=_font(size))
    return image.tobytes()
