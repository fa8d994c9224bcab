"""Draws what came of a person against the network."""

from collections.abc import Sequence
from math import ceil
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from convlens.client._text import percent, printable
from convlens.client.studies._charts import (
    COLOURS,
    INK,
    LINE,
    fitted,
    new_figure,
    picture_of,
)
from convlens.client.studies._human import Answered, HumanStudy
from convlens.client.studies._reading import small

# In pixels: of a picture, of the words below it, between pictures, and above them.
SIDE, WORDS, GAP, HEAD = 168, 66, 18, 34
ACROSS, MOST = 6, 24


def two_by_two(found: HumanStudy) -> Image.Image:
    """The table of both, its cells the darker the more pictures they have."""
    figure, axes = new_figure(4.4, 3.1)
    place: Any = axes[0, 0]
    shares = found.table / found.table.sum()
    place.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    place.set_xticks([0, 1], ["network right", "network wrong"])
    place.set_yticks([0, 1], ["person right", "person wrong"])
    place.tick_params(length=0, top=True, labeltop=True, bottom=False, labelbottom=False)
    place.grid(False)
    for side in place.spines.values():
        side.set_visible(False)
    for (row, column), count in np.ndenumerate(found.table):
        share = shares[row, column]
        colour = "white" if share > 0.5 else INK
        words = f"{count}\n{percent(share)}"
        place.text(column, row, words, ha="center", va="center", color=colour, fontsize=13)
    return picture_of(figure)


def differences(found: HumanStudy) -> Image.Image:
    """The pictures about which only one is right, and what both said."""
    groups = {
        "Only the person is right": [
            e for e in found.answered if e.human_is_right and not e.network_is_right
        ],
        "Only the network is right": [
            e for e in found.answered if e.network_is_right and not e.human_is_right
        ],
    }
    parts = [_group(title, answers) for title, answers in groups.items() if answers]
    width = max(part.width for part in parts)
    sheet = Image.new("RGB", (width, sum(part.height for part in parts)), "white")
    top = 0
    for part in parts:
        sheet.paste(part, (0, top))
        top += part.height
    return sheet


def _group(title: str, answers: Sequence[Answered]) -> Image.Image:
    drawn = answers[:MOST]
    rows, columns = ceil(len(drawn) / ACROSS), ACROSS
    size = (GAP + columns * (SIDE + GAP), HEAD + GAP + rows * (SIDE + WORDS + GAP))
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    more = f", {MOST} of {len(answers)}" if len(answers) > MOST else f": {len(answers)}"
    draw.text((GAP, GAP - 2), title + more, INK, ImageFont.load_default(17))
    for number, answer in enumerate(drawn):
        left = GAP + number % columns * (SIDE + GAP)
        top = HEAD + GAP + number // columns * (SIDE + WORDS + GAP)
        _one(sheet, draw, answer, left, top)
    return sheet


def _one(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, answer: Answered, left: int, top: int
) -> None:
    picture = small(answer.picture, 2 * SIDE)
    draw.rectangle((left - 1, top - 1, left + SIDE, top + SIDE), "white", LINE)
    if picture is not None:
        pixels = fitted(np.asarray(picture), SIDE)
        across, down = (SIDE - pixels.shape[1]) // 2, (SIDE - pixels.shape[0]) // 2
        sheet.paste(Image.fromarray(pixels), (left + across, top + down))
    font = ImageFont.load_default(13)
    lines = (
        (f"it is {answer.truth}", INK),
        (f"person: {answer.human[0]}", COLOURS[0] if answer.human_is_right else COLOURS[1]),
        (f"network: {answer.network[0]}", COLOURS[0] if answer.network_is_right else COLOURS[1]),
    )
    for number, (words, colour) in enumerate(lines):
        draw.text((left, top + SIDE + 5 + 19 * number), _cut(words, font), colour, font)


def _cut(words: str, font: Any) -> str:
    """As much of a line as is no wider than a picture."""
    line = printable(words)
    if font.getlength(line) <= SIDE:
        return line
    while line and font.getlength(line + "…") > SIDE:
        line = line[:-1]
    return line + "…"
