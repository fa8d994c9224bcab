"""Draws queries with their neighbours by rank."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from convlens.client._text import printable
from convlens.client.studies._charts import COLOURS, FAINT, INK, LINE, fitted
from convlens.client.studies._neighbours import Neighbour, NeighboursOf
from convlens.client.studies._reading import small

# Queries, and neighbours of each, that a sheet shows.
SHOWN, MOST = 12, 12
# In pixels: a picture's side, between two, between rows, below a picture, and around all.
SIDE, GAP, STEP, FOOT, EDGE = 88, 8, 12, 34, 20
# Between a query and its neighbours, and above the first row.
APART, HEAD = 20, 22
SAME, OTHER = COLOURS[0], COLOURS[1]


def neighbour_sheet(queries: Sequence[NeighboursOf]) -> Image.Image:
    """A row for each query: at the left, then what is most similar to it.

    Of many queries some are shown, evenly from the first to the last.
    """
    count = min(SHOWN, len(queries))
    shown = [queries[n * (len(queries) - 1) // max(1, count - 1)] for n in range(count)]
    columns = max(1, min(MOST, max(len(each.neighbours) for each in shown)))
    row = SIDE + FOOT + STEP
    width = 2 * EDGE + SIDE + APART + columns * (SIDE + GAP)
    made = Image.new("RGB", (width, 2 * EDGE + HEAD + len(shown) * row - STEP), "white")
    pen = _Pen(made)
    pen.text((EDGE, EDGE), "query", FAINT)
    pen.text((EDGE + SIDE + APART, EDGE), "most similar first, with the cosine", FAINT)
    if any(each.label is not None for each in shown):
        pen.legend(width - EDGE, EDGE)
    for number, each in enumerate(shown):
        top = EDGE + HEAD + number * row
        pen.picture((EDGE, top), each.query, INK)
        pen.foot((EDGE, top), each.query.stem if each.label is None else each.label, "")
        for rank, near in enumerate(each.neighbours[:columns]):
            left = EDGE + SIDE + APART + rank * (SIDE + GAP)
            pen.picture((left, top), near.picture, _colour(each, near))
            pen.foot((left, top), f"{near.similarity:.3f}", near.label or "")
    return made


def _colour(of: NeighboursOf, near: Neighbour) -> str:
    if of.label is None:
        return LINE
    return SAME if near.label == of.label else OTHER


class _Pen:
    """Draws on a sheet; places are (left, top) of a picture."""

    def __init__(self, sheet: Image.Image) -> None:
        self._sheet = sheet
        self._draw = ImageDraw.Draw(sheet)
        self._font = ImageFont.load_default(12)

    def text(self, at: tuple[int, int], text: str, colour: str) -> None:
        """Text no wider than a picture, unless it is a heading."""
        self._draw.text(at, text, colour, self._font)

    def legend(self, right: int, top: int) -> None:
        """What the colours below pictures mean, up to the right edge."""
        for words, colour in (("another class", OTHER), ("the query's class", SAME)):
            right -= round(self._draw.textlength(words, self._font))
            self.text((right, top), words, FAINT)
            right -= 18
            self._draw.rectangle((right, top + 6, right + 12, top + 9), colour)
            right -= 14

    def picture(self, at: tuple[int, int], path: Path, colour: str) -> None:
        """The picture, and a line below it."""
        left, top = at
        pixels = _read(path)
        if pixels is None:
            self._draw.rectangle((left, top, left + SIDE - 1, top + SIDE - 1), "#f2f0eb")
            self._draw.text(
                (left + SIDE // 2, top + SIDE // 2), "not here", FAINT, self._font, "mm"
            )
        else:
            down, right = (SIDE - pixels.shape[0]) // 2, (SIDE - pixels.shape[1]) // 2
            self._sheet.paste(Image.fromarray(pixels), (left + right, top + down))
        self._draw.rectangle((left, top + SIDE + 2, left + SIDE - 1, top + SIDE + 4), colour)

    def foot(self, at: tuple[int, int], first: str, second: str) -> None:
        """Two lines below a picture, cut to its width."""
        left, top = at
        self.text((left, top + SIDE + 6), self._cut(first), INK)
        self.text((left, top + SIDE + 20), self._cut(second), FAINT)

    def _cut(self, text: str) -> str:
        text = printable(text)
        if self._draw.textlength(text, self._font) <= SIDE:
            return text
        while text and self._draw.textlength(f"{text}…", self._font) > SIDE:
            text = text[:-1]
        return f"{text}…"


def _read(path: Path) -> NDArray[np.uint8] | None:
    """The picture as it fits; None where it is on another machine, or gone."""
    picture = small(path, SIDE)
    return None if picture is None else fitted(np.asarray(picture), SIDE)
